"""nnU-Net with its own planner, preprocessing, trainer and prediction, on the CPU.

Its trainer runs for the steps of the budget instead of 1,000 epochs. Everything else is
its default: the network, the patch and the batch size of the plan, SGD with Nesterov
momentum, the loss with deep supervision, the augmentation in processes of its own, and
the prediction in Gaussian tiles with mirrored axes.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from budget import decay_polynomial
from contender import Prepared, Trained
from data import Data, Sample

DATASET = "Dataset001_peers"
RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
PLANS = "nnUNetPlans"


def prepare(prepared: Prepared) -> None:
    """Writes the images in nnU-Net's format; plans and preprocesses them."""
    data = prepared.data
    raw = _set_folders(prepared.cache / "nnunet", prepared.cache) / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    samples = {
        f"{split}{i:03d}": sample
        for split in ("train", "val")
        for i, sample in enumerate(getattr(data, split))
    }
    for name, sample in samples.items():
        _write_case(raw, name, sample)
    content = {
        "channel_names": _name_channels(data),
        "labels": {name: i for i, name in enumerate(("background", *data.classes[1:]))},
        "numTraining": len(samples),
        "file_ending": _find_ending(data),
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    from nnunetv2.experiment_planning import (  # pyright: ignore[reportMissingImports]
        plan_and_preprocess_api as api,
    )

    processes = len(os.sched_getaffinity(0))
    api.extract_fingerprints([1], num_processes=processes, check_dataset_integrity=True)
    api.plan_experiments([1])
    api.preprocess(
        [1], configurations=[_configuration(data)], num_processes=[processes]
    )
    split = {
        part: [name for name in samples if name.startswith(part)]
        for part in ("train", "val")
    }
    folder = prepared.cache / "nnunet" / PREPROCESSED / DATASET
    (folder / "splits_final.json").write_text(json.dumps([split]))


def train(prepared: Prepared) -> Trained:
    """Trains nnU-Net's network for the steps of the budget."""
    data, budget = prepared.data, prepared.budget
    _set_folders(prepared.cache / "nnunet", prepared.output)
    import torch  # pyright: ignore[reportMissingImports]
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import (  # pyright: ignore[reportMissingImports]
        nnUNetTrainer,
    )

    from peers import torch_loop

    torch_loop.set_threads()  # as nnUNetv2_train -device cpu does
    torch.manual_seed(prepared.seed)
    np.random.seed(prepared.seed)

    class ShortTrainer(nnUNetTrainer):
        """nnU-Net's trainer, with its schedule over steps instead of epochs."""

        def run_training(self) -> None:
            """Trains for the steps of the budget."""
            self.on_train_start()
            self.network.train()
            for progress in budget:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * decay_polynomial(progress)
                self.train_step(next(self.dataloader_train))
            for loader in (self.dataloader_train, self.dataloader_val):
                if hasattr(loader, "_finish"):  # processes of its augmentation
                    loader._finish()

    base = prepared.cache / "nnunet" / PREPROCESSED / DATASET
    plans = json.loads((base / f"{PLANS}.json").read_text())
    trainer: Any = ShortTrainer(
        plans={**plans, "continue_training": False},
        configuration=_configuration(data),
        fold=0,
        dataset_json=json.loads((base / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.run_training()
    return Trained(_make_predict(trainer, data))


def _make_predict(trainer: Any, data: Data) -> Any:
    """Returns the function of `Trained.predict`."""
    from nnunetv2.inference.predict_from_raw_data import (  # pyright: ignore[reportMissingImports]
        nnUNetPredictor,
    )

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    weights = trainer.network.state_dict()
    predictors = {}
    for mirrored in (False, True):
        predictor = nnUNetPredictor(
            use_mirroring=mirrored, device=trainer.device, allow_tqdm=False
        )
        predictor.manual_initialization(
            trainer.network,
            trainer.plans_manager,
            trainer.configuration_manager,
            [weights],
            trainer.dataset_json,
            type(trainer).__name__,
            trainer.inference_allowed_mirroring_axes,
        )
        predictors[mirrored] = predictor

    def predict(sample: Sample, views: bool) -> np.ndarray:
        image = np.moveaxis(sample.image, -1, 0).astype(np.float32)
        if data.axes == 2:
            image = image[:, None]  # as its reader of natural images
        spacing = list(sample.spacing or (1.0,) * 3) if data.axes == 3 else [999, 1, 1]
        _, probabilities = predictors[views].predict_single_npy_array(
            image, {"spacing": spacing}, save_or_return_probabilities=True
        )
        answer = np.moveaxis(np.asarray(probabilities), 0, -1)
        return answer[0] if data.axes == 2 else answer

    return predict


def _set_folders(place: Path, results: Path) -> Path:
    """Sets nnU-Net's variables of the environment; returns the folder of raw data."""
    folders = {RAW: place / RAW, PREPROCESSED: place / PREPROCESSED}
    folders[RESULTS] = results / RESULTS
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder.resolve())
    return folders[RAW]


def _configuration(data: Data) -> str:
    return "2d" if data.axes == 2 else "3d_fullres"


def _find_ending(data: Data) -> str:
    return ".png" if data.axes == 2 else ".nii.gz"


def _name_channels(data: Data) -> dict[str, str]:
    """Returns the kinds of channels; unknown ones are normalised one by one."""
    names = {1: ("grey",), 3: ("red", "green", "blue")}[data.channels]
    return {str(i): name for i, name in enumerate(names)}


def _write_case(raw: Path, name: str, sample: Sample) -> None:
    """Writes an image and its label as nnU-Net reads them."""
    if sample.label.ndim == 2:
        from PIL import Image

        image = (
            sample.image.squeeze(-1) if sample.image.shape[-1] == 1 else sample.image
        )
        Image.fromarray(image).save(raw / "imagesTr" / f"{name}_0000.png")
        Image.fromarray(sample.label.astype(np.uint8)).save(
            raw / "labelsTr" / f"{name}.png"
        )
        return
    import SimpleITK  # pyright: ignore[reportMissingImports]

    pairs = {
        "imagesTr": (sample.image[..., 0].astype(np.float32), f"{name}_0000.nii.gz"),
        "labelsTr": (sample.label.astype(np.uint8), f"{name}.nii.gz"),
    }
    for folder, (array, file) in pairs.items():
        volume = SimpleITK.GetImageFromArray(array)
        if sample.spacing:
            volume.SetSpacing([float(size) for size in sample.spacing[::-1]])
        SimpleITK.WriteImage(volume, str(raw / folder / file))
