"""The bits that each defence puts on the wire."""

from math import ceil

import pytest
import torch

from gradiograph.core.defence import Chain, Defence, Encoding
from gradiograph.core.random import stream
from gradiograph.defences import QSGD, Clip, GaussianNoise, LaplaceNoise, RandomK, SignSGD, TopK, UniformQuantisation

UPDATE = {"weight": torch.arange(-500.0, 500.0).view(10, 100) / 7, "bias": torch.arange(1.0, 25.0)}
TOTAL = 1024
DENSE = Encoding(num_values=TOTAL)


def encode(*stages: Defence) -> Encoding:
    chain = Chain(stages=stages)
    return chain.encode(chain.on_update(UPDATE, stream(0, "wire")), DENSE)


@pytest.mark.parametrize(
    ("stages", "bits"),
    [
        ((), TOTAL * 32),
        ((Clip(norm=1.0),), TOTAL * 32),
        ((GaussianNoise(std=1.0),), TOTAL * 32),
        ((LaplaceNoise(snr=1.0),), TOTAL * 32),
        ((UniformQuantisation(bits=3),), TOTAL * 3 + 2 * 32),
        ((QSGD(levels=16),), TOTAL * (1 + 5) + 2 * 32),
        ((QSGD(levels=1),), TOTAL * 2 + 2 * 32),
        ((QSGD(levels=15, bucket=64),), TOTAL * (1 + 4) + (16 + 1) * 32),
        ((TopK(sparsity=0.9),), (100 + 3) * (32 + 10)),
        ((TopK(sparsity=0.9, scope="update"),), 103 * (32 + 10)),
        ((TopK(sparsity=0.0),), TOTAL * 32),
        ((RandomK(sparsity=0.9),), (100 + 3) * 32 + 64),
        ((SignSGD(),), TOTAL),
        ((SignSGD(zero=0),), TOTAL * 2),
        ((SignSGD(scale="mean_abs"),), TOTAL + 2 * 32),
        ((TopK(sparsity=0.9), UniformQuantisation(bits=4)), 103 * (4 + 10) + 2 * 32),
        ((UniformQuantisation(bits=4), TopK(sparsity=0.9)), 103 * (4 + 10) + 2 * 32),
        ((TopK(sparsity=0.9), GaussianNoise(std=1.0)), TOTAL * 32),
        ((TopK(sparsity=0.9), GaussianNoise(std=0.0)), 103 * (32 + 10)),
        ((TopK(sparsity=0.9), SignSGD()), TOTAL),
        ((TopK(sparsity=0.9), SignSGD(zero=0)), 103 * (2 + 10)),
        ((TopK(sparsity=0.9), TopK(sparsity=0.5)), 103 * (32 + 10)),
        ((RandomK(sparsity=0.5), QSGD(levels=3)), 512 * 3 + 64 + 2 * 32),
    ],
)
def test_bytes_on_the_wire(stages, bits):
    assert encode(*stages).num_bytes == ceil(bits / 8)


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("kind", [TopK, RandomK])
def test_a_sparsifier_counts_the_values_it_sends(kind, sparsity):
    defence = kind(sparsity=sparsity)
    sent = defence.on_update(UPDATE, stream(0, "wire"))
    zeros = sum(int((tensor == 0).sum()) for tensor in UPDATE.values())  # a true zero may be among what is sent
    arrived = sum(int((tensor != 0).sum()) for tensor in sent.values())
    assert arrived <= defence.encode(sent, DENSE).num_values <= arrived + zeros


@pytest.mark.parametrize("defence", [UniformQuantisation(bits=3), QSGD(levels=5), SignSGD(), SignSGD(zero=0)])
def test_the_values_seen_fit_into_the_bits_stated(defence):
    sent = defence.on_update(UPDATE, stream(0, "wire"))
    bits = defence.encode(sent, DENSE).value_bits
    assert all(len(tensor.unique()) <= 2**bits for tensor in sent.values())


def test_stronger_protection_costs_no_more_bytes():
    by_bits = [encode(UniformQuantisation(bits=b)).num_bytes for b in range(2, 17)]
    by_sparsity = [encode(TopK(sparsity=s)).num_bytes for s in (0.99, 0.9, 0.5)]
    assert by_bits == sorted(by_bits)
    assert by_sparsity == sorted(by_sparsity)
