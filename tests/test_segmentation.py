"""Segmentation: losses, networks, masks as targets, masks read back, and what a protection costs the overlap."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from scipy.ndimage import binary_erosion, distance_transform_edt

from gradiograph.attacks.eigen import fit_eigen, load_mask_prior, save_prior
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.attacks.mask_prior import fit_masks, probabilities
from gradiograph.audit import load_spec, parse_spec, plan, run, train_prior
from gradiograph.audit.client import client_update, observe
from gradiograph.audit.judged_masks import judged_cases
from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadInput, BadSetting, DataProblem
from gradiograph.core.example_gradients import example_gradients, require_separate_examples
from gradiograph.core.predictions import Segmentations
from gradiograph.core.random import stream
from gradiograph.core.task import mean_gradient
from gradiograph.core.tensors import Batch
from gradiograph.core.threat import ThreatModel
from gradiograph.data.ct_phantom import ct_phantom
from gradiograph.log import Log
from gradiograph.metrics import mask_dice
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.tasks import batch_dice, cross_entropy, dice, dilated_net, monai_unet, unet
from gradiograph.utility import CASE_MEASURES, estimate
from medical_specimens import decathlon_folder

NETWORKS = {"unet": unet, "dilated_net": dilated_net, "monai_unet": monai_unet}


def masks(count=3, side=16, structures=3, seed=0):
    """Two discs, one of which may be missing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    found = np.zeros((count, side, side), dtype=np.int64)
    for mask in found:
        for structure in range(1, structures):
            (cy, cx), radius = rng.uniform(4, side - 4, 2), rng.uniform(2, 4)
            mask[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = structure
    return found


def batch(count=3, side=16, structures=3):
    images = torch.rand(count, 1, side, side, generator=stream(0, "segmentation images"))
    return Batch(images, torch.from_numpy(masks(count, side, structures)))


class TestLosses:
    def test_the_dice_of_an_example_is_monais(self):
        outputs = torch.randn(3, 3, 16, 16, generator=stream(1, "logits"))
        truth = torch.from_numpy(masks())
        monai = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)
        expected = [float(monai(outputs[i : i + 1], truth[i : i + 1, None])) for i in range(3)]
        assert dice(outputs, truth).tolist() == pytest.approx(expected, rel=1e-5)

    def test_the_dice_of_a_batch_is_monais_and_couples_its_images(self):
        outputs = torch.randn(3, 3, 16, 16, generator=stream(1, "logits"))
        truth = torch.from_numpy(masks())
        whole = DiceLoss(
            include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0, batch=True
        )
        assert batch_dice(outputs, truth).tolist() == pytest.approx([float(whole(outputs, truth[:, None]))] * 3)
        assert not torch.allclose(batch_dice(outputs, truth)[:2], batch_dice(outputs[:2], truth[:2]))

    def test_cross_entropy_of_a_mask_is_the_mean_over_its_pixels(self):
        outputs = torch.randn(2, 3, 4, 4, generator=stream(1, "logits"))
        truth = torch.randint(3, (2, 4, 4), generator=stream(2, "truth"))
        expected = -outputs.log_softmax(1).gather(1, truth[:, None]).mean(dim=(1, 2, 3))
        torch.testing.assert_close(cross_entropy(outputs, truth), expected)


class TestNetworks:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_gradients_of_examples_add_up_to_that_of_the_batch(self, name):
        task = NETWORKS[name]((1, 16, 16), 0, num_classes=3)
        own, films = example_gradients(task, task.state(), batch()), batch()
        together = mean_gradient(task, task.state(), films)
        for key in task.trainable:
            torch.testing.assert_close(own.tensors[key].mean(dim=0), together[key], rtol=1e-3, atol=1e-5)

    def test_a_loss_over_the_batch_is_refused_where_examples_are_clipped(self):
        with pytest.raises(BadSetting, match=r"one number for the whole batch.*'dice' or 'dice_cross_entropy'"):
            require_separate_examples(unet((1, 16, 16), 0, loss="batch_dice"))
        require_separate_examples(unet((1, 16, 16), 0))

    def test_without_skip_connections_the_decoder_sees_the_lowest_level_only(self):
        task, other = (unet((1, 16, 16), 0, skip=skip) for skip in (True, False))
        assert task.state()["decoder.0.0.weight"].shape[1] == 2 * other.state()["decoder.0.0.weight"].shape[1]

    def test_images_that_cannot_be_halved_are_refused(self):
        with pytest.raises(BadSetting, match=r"18 x 16 cannot be halved 2 times\. Use multiples of 4"):
            unet((1, 18, 16), 0)
        with pytest.raises(BadSetting, match="17 x 16 cannot be halved"):
            dilated_net((1, 17, 16), 0)

    def test_a_classifier_is_no_network_that_segments(self):
        with pytest.raises(BadSetting, match="trainable = 'head' finds no dense layer"):
            unet((1, 16, 16), 0, trainable="head")


class TestPhantom:
    def test_every_patient_has_an_anatomy_of_their_own_with_the_organs_in_their_places(self):
        data = ct_phantom(patients=10, image_size=48, slices=4)
        films, truth = data.read(range(8)), data.read_masks(range(8))
        assert not np.array_equal(truth[:4], truth[4:])
        liver, spleen, spine = (data.mask_classes.index(name) for name in ("liver", "spleen", "spine"))
        first = truth[0]
        assert np.nonzero(first == liver)[1].mean() < 24 < np.nonzero(first == spleen)[1].mean()
        assert np.nonzero(first == spine)[0].mean() > 24
        bone = films[0, 0][first == spine].mean()
        assert bone > films[0, 0][first == liver].mean() > films[0, 0][first == 0].mean()

    def test_scanners_differ_by_site_as_far_as_asked(self):
        def films(sites, shift):
            return ct_phantom(patients=10, image_size=32, slices=1, sites=sites, shift=shift).read(range(10))

        np.testing.assert_array_equal(films(1, 0), films(3, 0))
        changed = np.abs(films(1, 3) - films(3, 3)).mean(axis=(1, 2, 3))
        assert (changed[0::3] == 0).all()  # the first site's scanner is that of the only one
        assert (changed[1::3] > 0).all()

    @pytest.mark.parametrize(("split_by", "apart"), [("patient", True), ("slice", False)])
    def test_a_split_by_slice_puts_a_patient_into_several_splits(self, split_by, apart):
        data = ct_phantom(patients=20, slices=5, split_by=split_by)
        splits = [{record.split for record in data.records[start : start + 5]} for start in range(0, 100, 5)]
        assert all(len(found) == 1 for found in splits) is apart

    def test_the_class_is_the_position_and_the_site_can_be_the_client(self):
        data = ct_phantom(patients=10, slices=3)
        assert [record.label for record in data.records[:4]] == [0, 1, 2, 0]
        assert {record.site for record in data.records} == {"A", "B", "C"}


class TestOverlap:
    def test_dice_of_a_case_counts_all_its_pixels_together(self):
        truth, guess = masks(4, seed=1), masks(4, seed=2)
        found = judged_cases([(guess[:1], truth[:1]), (guess[1:], truth[1:])], ["a", "a", "b", "b"], [0, 0, 1, 1], 3)
        for case, chosen in enumerate((slice(0, 2), slice(2, 4))):
            ours, theirs = guess[chosen] == 1, truth[chosen] == 1
            assert found.dice[case, 0] == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
        assert found.patients.tolist() == ["a", "b"]
        assert found.sites.tolist() == [0, 1]

    def test_hd95_is_that_of_borders_by_an_independent_distance_map(self):
        truth, guess = masks(1, structures=2, seed=1), masks(1, structures=2, seed=2)
        found = judged_cases([(guess, truth)], ["a"], [0], 2)
        ours, theirs = (mask[0] == 1 for mask in (guess, truth))
        edges = [mask & ~binary_erosion(mask) for mask in (ours, theirs)]
        there = distance_transform_edt(~edges[1])[edges[0]]
        back = distance_transform_edt(~edges[0])[edges[1]]
        assert found.hd95[0, 0] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-5)

    def test_a_structure_that_one_mask_lacks_counts_as_missed_and_one_that_both_lack_not_at_all(self):
        truth = np.zeros((2, 8, 8), dtype=np.int64)
        truth[0, 2:5, 2:5] = 1
        found = judged_cases([(np.zeros_like(truth), truth)], ["a", "b"], [0, 0], 3)
        assert found.dice[0].tolist() == [0.0, pytest.approx(np.nan, nan_ok=True)]
        assert (found.surface_dice[0, 0], found.hd95[0, 0]) == (0.0, pytest.approx(np.hypot(8, 8)))
        assert np.isnan(found.dice[1]).all()
        assert CASE_MEASURES["dice"](found) == 0.0
        assert CASE_MEASURES["dice"](found.take(np.array([1]))) is None

    def test_intervals_resample_patients(self):
        rng = np.random.default_rng(0)
        values = rng.uniform(0.6, 1.0, (40, 2))
        cases = Segmentations(
            dice=values,
            surface_dice=values,
            hd95=values,
            patients=np.array([f"p{i}" for i in range(40)]),
            sites=np.arange(40) % 2,
        )
        found = estimate([cases], CASE_MEASURES["dice"])
        assert found.value == pytest.approx(values.mean())
        spread = 1.96 * values.mean(axis=1).std() / np.sqrt(40)
        assert found.high - found.low == pytest.approx(2 * spread, rel=0.25)

    def test_perfect_masks_are_perfect(self):
        truth = masks(3)
        found = judged_cases([(truth, truth)], ["a", "b", "c"], [0, 0, 0], 3)
        assert [CASE_MEASURES[name](found) for name in ("dice", "surface_dice", "hd95")] == [1.0, 1.0, 0.0]


class TestMaskPrior:
    def test_it_shows_public_masks_and_its_probabilities_add_up(self):
        truth = torch.from_numpy(masks(60))
        prior = fit_masks(truth, 3)
        latent = torch.zeros(2, len(prior.std))
        shown = probabilities(prior, latent)
        assert shown.shape == (2, 3, 16, 16)
        torch.testing.assert_close(shown.sum(dim=1), torch.ones(2, 16, 16))

    def test_it_is_kept_beside_the_prior_on_films_and_refuses_other_masks(self, tmp_path):
        films = torch.rand(30, 1, 16, 16, generator=stream(0, "films"))
        own = fit_masks(torch.from_numpy(masks(30)), 3)
        save_prior(fit_eigen(films, 4), tmp_path / "both.npz", ["p"], own)
        save_prior(fit_eigen(films, 4), tmp_path / "films.npz", ["p"])
        found = load_mask_prior(tmp_path / "both.npz", (2, 16, 16))
        torch.testing.assert_close(found.components, own.components)
        assert load_mask_prior(tmp_path / "films.npz", (2, 16, 16)) is None
        with pytest.raises(BadInput, match="for masks of shape"):
            load_mask_prior(tmp_path / "both.npz", (4, 16, 16))


def test_slices_at_one_place_of_every_volume(tmp_path):
    nifti_folder = decathlon_folder(tmp_path)
    component = registry.component("data", "decathlon")

    def made(**settings):
        return component.build(**component.check({"path": nifti_folder, "image_size": 8, **settings}))

    data = made(at=(0.25, 0.75), label="position")
    assert data.classes == ("25 %", "75 %")
    assert [record.label for record in data.records[:4]] == [0, 1, 0, 1]
    assert len(data.records) == 2 * len({record.patient for record in data.records})
    with pytest.raises(DataProblem, match="too few for 101 different places"):
        made(at=tuple(place / 100 for place in range(101)))
    with pytest.raises(BadSetting, match="says which slices, and so does every = 2"):
        made(at=(0.5,), every=2)
    with pytest.raises(BadSetting, match=r"label = 'position' needs the slices .* Set at ="):
        made(label="position")


def test_mask_dice_is_one_for_the_same_mask_and_for_two_empty_ones():
    truth = masks(2)
    assert mask_dice(truth, truth).values.tolist() == [1.0, 1.0]
    empty = np.zeros_like(truth)
    assert mask_dice(empty, empty).values.tolist() == [1.0, 1.0]
    assert mask_dice(empty, truth).values.tolist() == [0.0, 0.0]


AUDIT = {
    "name": "segmentation",
    "purpose": "test",
    "authorised_by": "test",
    "seeds": [3],
    "data": {"use": "ct_phantom", "image_size": 16, "patients": 60, "slices": 2},
    "victims": {"batches": 2, "size": 1},
    "task": {"use": "monai_unet", "num_classes": 6, "widths": [8, 16]},
    "protocol": {"use": "fedavg", "local_epochs": 1, "learning_rate": 0.02, "batch_size": 8},
    "threat": {"knows_labels": False},
    "defences": [[], [{"use": "dp_sgd", "clip_norm": 1.0, "noise_multiplier": 1.0}]],
    "attacks": [{"use": "map", "prior": "prior.npz", "steps": 4}],
    "metrics": [{"use": "identification", "distance": "pixels", "min_gallery": 5}, "psnr"],
    "utility": {"rounds": 2, "score": "dice", "sites": 3, "partition": "by_site", "references": []},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    spec = parse_spec(AUDIT)
    assert train_prior(spec, folder, folder / "prior.npz", 8).mask_components > 8
    return run(spec, folder, folder / "run"), folder


def test_an_audit_trains_attacks_and_scores_masks(finished):
    log, _ = finished
    assert {cell.failed for cell in log.cells()} == {""}
    rows = [row for row in log.rows() if row.metric == "mask_dice"]
    assert {row.control for row in rows} == {"none", "mismatched_update", "stock_film", "mean_film"}
    assert all(0 <= row.value <= 1 for row in rows)
    attacked = next(cell for cell in log.cells() if cell.control == "none")
    assert log.masks(attacked.id).shape == (1, 16, 16)
    assert {entry["name"] for entry in log.header["metrics"]} >= {"mask_dice", "psnr"}


def test_its_trainings_are_judged_by_case_and_its_report_says_so(finished):
    from gradiograph.report import write_html

    log, folder = finished
    for cell in log.trainings.cells():
        judged = log.trainings.predictions(cell.id)
        assert isinstance(judged, Segmentations)
        assert judged.dice.shape[1] == 5
    page = write_html(folder / "run").read_text()
    assert "HD95 in pixels" in page
    assert "Mask read back" in page


def test_purging_removes_the_masks(finished, tmp_path):
    from shutil import copytree

    from gradiograph.log import purge

    _, folder = finished
    copytree(folder / "run", tmp_path / "run")
    assert list((tmp_path / "run").rglob("masks.npz"))
    purge(Log.open(tmp_path / "run"))
    assert not list((tmp_path / "run").rglob("masks.npz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"use": "phantom", "image_size": 16, "patients": 60}}, "has no masks, which a task that segments"),
        ({"task": {"use": "unet", "num_classes": 3}}, "num_classes = 3, the data has 6 structures"),
        ({"utility": {"rounds": 1, "score": "auroc"}}, "'auroc' does not judge task 'unet.*Choose dice"),
        ({"task": [{"use": "unet", "num_classes": 6}, {"use": "lenet", "num_classes": 2}]}, "of two kinds"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(changes, message, tmp_path):
    spec = parse_spec({**AUDIT, "task": {"use": "unet", "num_classes": 6}, "attacks": [{"use": "map"}], **changes})
    with pytest.raises((BadSetting, DataProblem), match=message):
        plan(spec, tmp_path)


def test_a_measure_of_classifiers_does_not_judge_masks():
    from gradiograph.utility import MEASURES

    with pytest.raises(TypeError, match="does not judge Segmentations"):
        MEASURES["auroc"](judged_cases([(masks(1), masks(1))], ["a"], [0], 3))


def test_the_studys_file_is_valid_but_for_its_data_and_prior():
    spec = load_spec(Path(__file__).parents[1] / "studies" / "dp_segmentation.toml")
    assert spec.utility.score == "dice"
    assert json.dumps(spec.model_dump(mode="json"))


REAL_CT = Path(__file__).parents[2] / "shared" / "data" / "ct_totalseg"


@pytest.mark.skipif(not REAL_CT.is_dir(), reason="the folder ../shared/data/ct_totalseg is absent")
def test_slices_of_real_ct_are_trained_on_and_attacked(tmp_path):
    """One real volume with 41 organs: too few patients here for an audit, but every piece runs on its slices."""
    for folder, name in (("images", "example_ct_sm"), ("masks", "example_seg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii.gz").write_bytes(next(REAL_CT.rglob(f"{name}.nii.gz")).read_bytes())
    settings = {"path": tmp_path / "images", "masks": tmp_path / "masks", "patient_pattern": "(.*)"}
    shape = {"image_size": 32, "spacing": (6, 6, 6), "at": (0.3, 0.4, 0.5, 0.6, 0.7), "window": "soft_tissue"}
    data = registry.component("data", "nifti")
    data = data.build(**data.check({**settings, **shape, "fractions": (1, 0, 0)}))
    task = monai_unet(data.image_shape, 0, num_classes=len(data.mask_classes))
    slices = Batch(torch.from_numpy(data.read(range(5))), torch.from_numpy(data.read_masks(range(5))))
    assert len(torch.unique(slices.targets)) > 5
    protocol = FedAvg(local_steps=20, learning_rate=0.02, momentum=0.9)
    update = client_update(task, task.state(), slices, protocol, Chain(), 0)
    after = {**task.state(), **{name: task.state()[name] + tensor for name, tensor in update.tensors.items()}}
    start, end = (task.loss(task.forward(w, slices.images), slices.targets).mean() for w in (task.state(), after))
    assert end < 0.9 * start
    one = slices.part(slice(2, 3))
    sent = client_update(task, task.state(), one, FedSGD(), Chain(), 0)
    seen = observe(task, task.state(), sent, FedSGD(), Chain(), ThreatModel(knows_labels=False), None)
    found = MaximumAPosteriori(steps=30, optimiser="adam", smoothing=0)(seen, stream(0, "attack"), lambda _: None)
    assert found.objective[-1] < found.objective[0]
    assert found.targets.shape == (1, len(data.mask_classes), 32, 32)
