"""What the report and the slides say of the kept results, with the numbers looked up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import MISMATCHED, Ladder, Study

sys.path.insert(0, str(Path(__file__).parents[1]))
from realism import RUNGS

LADDER = Ladder()
PIXELS = "identification_pixels_top1"
MAP = "map(prior=#4b25df)"
DP_MAP = "map(prior=#b01b1d, steps=300)"

OBFUSCATIONS = {
    "none": "none",
    "uniform_quantisation(bits=8)": "uniform grid, 8 bits",
    "uniform_quantisation(bits=3)": "uniform grid, 3 bits",
    "qsgd(levels=16, norm=max)": "QSGD, 16 levels, scaled by the maximum",
    "qsgd(levels=16)": "QSGD, 16 levels, scaled by the norm",
    "top_k(sparsity=0.95)": "top-k, 5 of 100 values sent",
    "top_k(sparsity=0.99)": "top-k, 1 of 100 values sent",
    "gaussian_noise(snr=1)": "Gaussian noise as strong as the update",
    "sign_sgd": "signs",
}
SEARCHED = {
    "none": "none",
    "top_k(sparsity=0.9)": "top-k, 10 of 100 values sent",
    "top_k(sparsity=0.99)": "top-k, 1 of 100 values sent",
    "uniform_quantisation(bits=3)": "uniform grid, 3 bits",
    "qsgd(levels=16)": "QSGD, 16 levels",
    "gaussian_noise(std=0.0001)": "Gaussian noise of 1e-4",
    "gaussian_noise(std=0.001)": "Gaussian noise of 1e-3",
    "gaussian_noise(std=0.01)": "Gaussian noise of 1e-2",
    "sign_sgd(scale=mean_abs)": "signs",
}
_PATIENT = "dp_sgd(clip_norm=1, unit=patient, "
BUDGETS = {
    "none": "no protection",
    f"{_PATIENT}noise_multiplier=0)": "clip of 1 alone",
    f"{_PATIENT}epsilon=1e+09, delta=0.0001)": "epsilon 1e9",
    f"{_PATIENT}epsilon=10000, delta=0.0001)": "epsilon 10,000",
    f"{_PATIENT}epsilon=100, delta=0.0001)": "epsilon 100",
    f"{_PATIENT}epsilon=30, delta=0.0001)": "epsilon 30",
    f"{_PATIENT}epsilon=8, delta=0.0001)": "epsilon 8",
    f"{_PATIENT}epsilon=3, delta=0.0001)": "epsilon 3",
    f"{_PATIENT}epsilon=1, delta=0.0001)": "epsilon 1",
}
SEGMENTED = {
    "none": "no protection",
    "dp_sgd(clip_norm=1, noise_multiplier=0)": "clip of 1 alone",
    "dp_sgd(clip_norm=1, epsilon=8, delta=0.001)": "DP-SGD, epsilon 8 for a slice",
    "dp_sgd(clip_norm=1, epsilon=3, delta=0.001)": "epsilon 3",
    "dp_sgd(clip_norm=1, epsilon=1, delta=0.001)": "epsilon 1",
}
NETWORKS = {
    "resnet_wide_head*": "ResNet with a wide head (the class project's)",
    "resnet18(mode=eval*": "ResNet-18, BatchNorm in eval mode",
    "resnet18(mode=train*": "ResNet-18, BatchNorm in train mode",
    "resnet18_groupnorm*": "ResNet-18, GroupNorm",
    "densenet121*": "DenseNet-121, BatchNorm in eval mode",
}
ASKED = {
    "none": "none",
    "sign_sgd": "signs",
    "top_k(sparsity=0.99)": "top-k, 1 of 100 values sent",
    "gaussian_noise(snr=0.01)": "Gaussian noise of 100 times the update's power",
    "gaussian_noise(snr=0.0001)": "of 10,000 times",
    "gaussian_noise(snr=1e-06)": "of 1,000,000 times",
}
SOURCES = {
    "class_project": "gradiograph run studies/class_project.toml",
    "unmixing": "gradiograph run studies/unmixing.toml",
    "unmixing/obfuscated": "gradiograph run studies/unmixing_defences.toml",
    "unmixing/trained_4": "gradiograph run studies/unmixing.toml (with trained weights, see the page)",
    "frontier": "gradiograph run studies/frontier.toml",
    "frontier_search": "gradiograph run studies/frontier_search.toml",
    "dp_frontier": "gradiograph run studies/dp_frontier.toml",
    "dp_search": "gradiograph run studies/dp_search.toml",
    "dp_segmentation": "gradiograph run studies/dp_segmentation.toml",
    "deep": "gradiograph run studies/deep.toml",
    "deep/wide_head": "gradiograph run studies/wide_head.toml",
    "deep/features": "gradiograph run studies/deep_features.toml",
    "deep/features/wide_head": "gradiograph run studies/deep_features.toml (the second run at its head)",
    "malicious": "gradiograph run studies/malicious.toml",
    "membership": "gradiograph run studies/membership.toml",
    "tailored/xray": "gradiograph run studies/tailored/xray.toml",
    "tailored/mr": "gradiograph run studies/tailored/mr.toml",
    "tailored/small_site": "gradiograph run studies/tailored/small_site.toml",
    "realism": "python studies/realism.py runs/realism",
    "assumptions": "gradiograph run studies/assumptions.toml (and the runs at its head)",
}


def answers() -> dict[str, str]:
    """The sentences that stand in the report and on the slides."""
    share, mean = LADDER.share, LADDER.mean
    return {
        "answer_published": (
            "On the first rung (FedSGD, one film, labels known) the best of DLG, inverting gradients and ROG identifies "
            f"{share('textbook', 'published')}; on a batch of four {share('batch', 'published')}; after five local "
            f"steps {share('fedavg', 'published')}; on a network that pools its features {share('cnn', 'published')}; "
            f"in an epoch of training over 64 films {share('epoch', 'published')}."
        ),
        "answer_realistic": (
            f"The better of our attacks identifies {share('fedavg', 'ours')} after five steps on a batch of four through "
            f"a wide dense layer, {share('cnn', 'ours')} ({share('cnn', 'ours', PIXELS)} by pixels) without that layer, "
            f"and {share('epoch', 'ours')} in an epoch over 64 augmented films, where the same attack on another client's "
            f"update identifies {share('epoch', 'control')}. The model that the textbook's protocol trains has an AUROC of "
            f"{mean('textbook', 'utility', 'auroc')}, that of an epoch a round {mean('epoch', 'utility', 'auroc')}: what "
            "trains well leaks less here, without any protection."
        ),
        "ladder_text": (
            "- **Batches end the published searches.** Inverting gradients reads single films whole; of a batch of four it "
            f"identifies {share('batch', 'published')}, {share('batch', 'published', PIXELS)} by pixels.\n"
            "- **A wide dense layer undoes that.** Where the update holds its gradient, the films of a batch are solved for, "
            f"and five local steps change nothing: {share('fedavg', 'ours')} at an LPIPS of "
            f"{mean('fedavg', 'ours', 'lpips')}. Without the layer a search with a prior still identifies "
            f"{share('cnn', 'ours', PIXELS)} by pixels.\n"
            "- **An epoch over 64 films ends what is left.** From there up no attack does better on the patient's update "
            "than on another's: not one difference, of five attacks by five measures, has an interval above zero. The search that begins near the truth drifts away from it there, which it does not on the "
            f"rungs below: identified {share('epoch', 'ceiling')}. So it is the objective that no longer holds the film, "
            "not only the search that fails to find it.\n"
            "- **What is realistic is also what trains.** From the textbook to an epoch a round the AUROC rises from "
            f"{mean('textbook', 'utility', 'auroc')} to {mean('epoch', 'utility', 'auroc')}; the rungs that leak are not those "
            "that anybody would train by. A head alone, on features of adults, costs some of it: "
            f"{mean('head', 'utility', 'auroc')}; with adapters {mean('lora', 'utility', 'auroc')}."
        ),
        "conclusions": (
            "1. **Ask for the control.** A reconstruction that looks right, at any LPIPS, says nothing until the same attack "
            "on another client's update is scored against the same patient.\n"
            "2. **Train as one trains.** Many films behind an update, mini-batches, augmentation: "
            "no attack here finds a film in that. It is an observation, no guarantee, and a better attack may exist. "
            "Normalisation in train mode is no protection: a batch of four is read through it.\n"
            "3. **Avoid what leaks.** An update of one film or a few, FedSGD, wide dense layers on early features, "
            "statistics kept fixed, deep layers with more channels than the batch has positions. Small sites are the ones at risk; let them train with others behind secure aggregation.\n"
            "4. **Do not count obfuscation as protection.** Grids and sparse updates are read by a server that knows them. "
            "Signs were not, here; but who took part shows through all of them.\n"
            "5. **Where a guarantee is asked for, add noise with a budget**, and say of whom: an image, a patient, a site. "
            "Its price here is in the clip more than in the noise.\n"
            "6. **Audit the set-up that is meant to run**, again whenever it changes."
        ),
    }


def assumptions() -> list[tuple[str, str, str]]:
    """What deep leakage assumes, what a hospital does, and what that was worth."""
    study, long, trained = Study("assumptions"), Study("assumptions/long"), Study("unmixing/trained_4")
    granted, labels = Study("assumptions/labels"), {"attack": "inverting*", "metric": PIXELS}
    smooth, kinked = {"task": "dlg_network:build"}, {"task": "lenet"}
    evaluated, training = (
        {"task": f"small_cnn(norm=batch, mode={mode})", "attack": "map*"} for mode in ("eval", "train")
    )
    features, solved = Study("deep/features"), {"task": "resnet18(mode=train*", "attack": "conv_unmixing(generator*"}
    paper = {"attack": "dlg", "metric": PIXELS}
    share = LADDER.share
    return [
        (
            "A smooth network, weights drawn wide",
            "Rectifiers, pooling, normalisation",
            f"DLG with the paper's steps on the paper's network, by pixels: {long.told(**paper)} "
            f"(control {long.told(**paper, control=MISMATCHED)}); cut to 15 steps, {study.told(PIXELS, attack='dlg*', **smooth)}, "
            f"and on LeNet with rectifiers {study.told(PIXELS, attack='dlg*', **kinked)}. Inverting gradients does not need it: "
            f"{study.told(PIXELS, attack='inverting*', **kinked)} there.",
        ),
        (
            "One image behind one gradient",
            "Batches, local steps, epochs",
            f"The best published search: {share('textbook', 'published')}; batch of four {share('batch', 'published')}; "
            f"five local steps {share('fedavg', 'published')}; an epoch over 64 films {share('epoch', 'published')}.",
        ),
        (
            "Labels known, or searched beside one image",
            "Not granted; two classes, many films of each",
            f"One film: nothing is gained by granting them (inverting gradients {granted.told(**labels)}, inferred "
            f"{study.told(**labels, **smooth)}). In batches they are lost to searches, not to solvers, which need none "
            "([labels](../labels/README.md)).",
        ),
        (
            "Fresh weights",
            "Round twenty of a training",
            f"It depends: on LeNet, `unmixing` falls from {Study('unmixing').share(attack='unmixing*', defence='none')} to "
            f"{trained.share(attack='unmixing*', defence='none')}; on DLG's network `map` rises from "
            f"{study.told(PIXELS, attack='map*', **smooth)} to "
            f"{study.told(PIXELS, attack='map*', task='dlg_network:build(weights*')} by pixels.",
        ),
        (
            "No BatchNorm in train mode",
            "The default of nearly every medical network",
            f"One film, the same weights: `map` identifies {study.told(PIXELS, **evaluated)} by pixels in eval mode, "
            f"{study.told(PIXELS, **training)} in train mode, at "
            f"{study.mean('psnr', 1, interval=False, **evaluated)} and {study.mean('psnr', 1, interval=False, **training)} dB. "
            f"Solved for its features first, a batch of four behind ResNet-18 in train mode: {features.told(PIXELS, **solved)} by pixels.",
        ),
        (
            "The truth at hand, to show the best picture or to stop",
            "Nobody has it",
            f"DLG on its own network, in dB by steps: {_by_steps()}.",
        ),
        (
            "A picture that looks right is a leak",
            "Chests look alike",
            f"Another patient's public film has an LPIPS of {Study('class_project').mean('lpips', control='stock_film')}; "
            "the class project's reconstruction, reported as a leak, 0.445.",
        ),
    ]


def _by_steps() -> str:
    short, long = Study("assumptions/stopping"), Study("assumptions/long")
    told = [(steps, short, f"dlg(steps={steps})") for steps in (1, 5, 10)]
    told += [(steps, long, f"dlg(steps={steps})") for steps in (30, 100)] + [(300, long, "dlg")]
    return ", ".join(
        f"{steps}: {study.mean('psnr', 1, interval=False, attack=attack)}" for steps, study, attack in told
    )


def claims() -> dict[str, Any]:
    """Everything that the templates name.

    Raises:
        NoSuchNumber: the studies hold no such number.
    """
    unaware = Study("unmixing/unaware")
    return {
        "ladder": LADDER,
        "titles": {rung.name: rung.title for rung in RUNGS},
        "project": Study("class_project"),
        "unmixing": Study("unmixing"),
        "obfuscated": Study("unmixing/obfuscated"),
        "unaware": unaware,
        "unaware_labels": {row.defence for row in unaware.rows if row.attack},
        "rog_labels": {row.defence for row in Study("class_project").rows if row.attack.startswith("rog")},
        "frontier": Study("frontier"),
        "frontier_search": Study("frontier_search"),
        "dp_frontier": Study("dp_frontier"),
        "segmentation": Study("dp_segmentation"),
        "deep": Study("deep"),
        "wide_head": Study("deep/wide_head"),
        "features": Study("deep/features"),
        "features_wide_head": Study("deep/features/wide_head"),
        "malicious": Study("malicious"),
        "membership": Study("membership"),
        "tailored": {
            "xray": Study("tailored/xray"),
            "mr": Study("tailored/mr"),
            "small": Study("tailored/small_site"),
        },
        "MAP": MAP,
        "DP_MAP": DP_MAP,
        "obfuscations": OBFUSCATIONS,
        "searched": SEARCHED,
        "budgets": BUDGETS,
        "segmented": SEGMENTED,
        "networks": NETWORKS,
        "asked": ASKED,
        "sources": SOURCES,
        "counts": {name: LADDER.size("batch") if name == "realism" else Study(name).films for name in SOURCES},
        "assumptions": assumptions(),
        **answers(),
    }
