"""Updates on the wire: exactly what was sent, in no more bytes than the defence's own count, and never a crash."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradiograph.core.defence import Chain, Encoding
from gradiograph.core.errors import BadInput
from gradiograph.core.random import stream
from gradiograph.defences import QSGD, Clip, GaussianNoise, RandomK, SignSGD, TopK, UniformQuantisation
from gradiograph.flower.bits import pack, unpack
from gradiograph.flower.wire import decode, encode

UPDATE = {
    "weight": torch.randn(64, 500, generator=stream(0, "weight")) * 1e-3,
    "bias": torch.randn(64, generator=stream(0, "bias")) * 1e-2,
    "scalar": torch.tensor(0.3),
    "zeros": torch.zeros(10),
    "empty": torch.zeros(0),
}
HEADERS = 40 * len(UPDATE)
STACKS = {
    "none": (),
    "clip": (Clip(norm=1e-3),),
    "noise": (GaussianNoise(std=1e-3),),
    "qsgd": (QSGD(levels=16),),
    "qsgd buckets": (QSGD(levels=16, bucket=64),),
    "qsgd max": (QSGD(levels=255, norm="max"),),
    "ternary": (QSGD(levels=1),),
    "3 bits": (UniformQuantisation(bits=3),),
    "16 bits": (UniformQuantisation(bits=16),),
    "signs": (SignSGD(),),
    "signs and zero": (SignSGD(zero=0),),
    "scaled signs": (SignSGD(scale="mean_abs"),),
    "top-k 0.9": (TopK(sparsity=0.9),),
    "top-k 0.99": (TopK(sparsity=0.99),),
    "top-k then qsgd": (TopK(sparsity=0.9), QSGD(levels=4)),
    "qsgd then top-k": (QSGD(levels=4, bucket=32), TopK(sparsity=0.9)),
    "top-k then signs": (TopK(sparsity=0.9), SignSGD(zero=0)),
    "qsgd then noise": (QSGD(levels=4), GaussianNoise(std=1e-3)),
}
NO_MORE_THAN_TOLD = [name for name in STACKS if name != "16 bits"]


def through(stages):
    chain = Chain(stages=stages)
    tensors = {name: tensor for name, tensor in UPDATE.items() if tensor.numel() or not stages}
    return chain, chain.on_update(tensors, stream(1, "defence"))


@pytest.mark.parametrize("name", STACKS)
def test_what_is_decoded_is_what_was_sent(name):
    chain, sent = through(STACKS[name])
    found = decode(encode(sent, chain), sent)
    assert list(found) == list(sent)
    assert all(torch.equal(found[key], sent[key]) for key in sent)


@pytest.mark.parametrize("name", NO_MORE_THAN_TOLD)
def test_it_takes_no_more_bytes_than_the_defence_tells(name):
    chain, sent = through(STACKS[name])
    told = chain.encode(sent, Encoding(num_values=sum(tensor.numel() for tensor in sent.values()))).num_bytes
    assert len(encode(sent, chain)) <= told + HEADERS


@pytest.mark.parametrize(("name", "share"), [("3 bits", 3 / 32), ("signs", 1 / 32), ("top-k 0.99", 0.02)])
def test_a_cheap_update_is_cheap(name, share):
    chain, sent = through(STACKS[name])
    dense = 4 * sum(tensor.numel() for tensor in sent.values())
    assert len(encode(sent, chain)) <= share * dense + HEADERS


def test_random_places_are_sent_without_a_shared_seed():
    chain, sent = through((RandomK(sparsity=0.9),))
    assert all(torch.equal(tensor, sent[name]) for name, tensor in decode(encode(sent, chain), sent).items())


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64])
def test_other_types_go_as_they_are(kind):
    sent = {"w": torch.arange(7).to(kind)}
    found = decode(encode(sent, Chain(stages=(QSGD(levels=2),))), sent)["w"]
    assert found.dtype == kind
    assert torch.equal(found, sent["w"])


def test_values_that_are_not_finite_arrive():
    sent = {"w": torch.tensor([1.0, float("nan"), float("inf")])}
    found = decode(encode(sent, Chain(stages=(QSGD(levels=2),))), sent)["w"]
    assert torch.equal(found.nan_to_num(7), sent["w"].nan_to_num(7))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 16), st.lists(st.integers(0, 2**16 - 1), max_size=40))
def test_bits_round_trip(bits, numbers):
    numbers = torch.tensor(numbers, dtype=torch.int64).remainder(2**bits).numpy()
    packed = pack(numbers, bits)
    assert len(packed) == (len(numbers) * bits + 7) // 8
    assert (unpack(packed, len(numbers), bits) == numbers).all()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(content):
    like = {"w": torch.zeros(5), "b": torch.zeros(3)}
    try:
        found = decode(content, like)
    except BadInput:
        return
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in like.items()}


@pytest.mark.parametrize("cut", [1, 10, -1, -10])
def test_a_truncated_update_is_refused(cut):
    chain, sent = through((TopK(sparsity=0.9),))
    content = encode(sent, chain)
    with pytest.raises(BadInput, match="does not fit the model"):
        decode(content[:cut], sent)
