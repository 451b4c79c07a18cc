"""Every setting of the program, as plain frozen dataclasses: name, default, unit, range.

YAML files in `conf/` set them, `config` checks them, and everything below takes plain values from them. An empty list, 0 or
the empty string means "the planner decides" where the docstring says *auto*.
"""

# ruff: noqa: RUF009 - `_in` and `_of` only build `dataclasses.field`
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _in(low: float, high: float, default: Any) -> Any:
    """A number (or each number of a list or mapping) in low..high."""
    meta = {"low": low, "high": high}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    return field(default=default, metadata=meta)


def _of(*choices: str) -> Any:
    """One word of a closed choice; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


def _each_of(*choices: str) -> Any:
    """A list of words of a closed choice, empty by default."""
    return field(default_factory=list, metadata={"choices": choices})


@dataclass(frozen=True)
class DicomSettings:
    """The layout `dicom`: series, and the segmentations (SEG) and structure sets (RTSTRUCT) that were drawn on them."""

    labels: dict[str, str] = field(default_factory=dict)
    """Which structures are which label, numbered from 1 in this order: `{"PZ": "peripheral*", "tumour": "lesion* | code=SCT:108369006"}`.
    Alternatives joined by `|`, each a name, a pattern, `number=3` or `code=SCHEME:VALUE`; without `*`, `?` or `[` it must be one structure.
    auto: every structure, where all cases have the same names, sorted."""
    series: dict[str, str] = field(default_factory=dict)
    """Which series of a study is which channel, in this order: `{"T2": "t2*tra*", "ADC": "type=ADC", "DWI": "modality=MR; b=1400"}`. Terms
    joined by `;` must all hold, alternatives are joined by `|`: a pattern of the SeriesDescription, or modality, type (a word of the
    ImageType), b (s/mm2), te (ms), number. auto: one channel, the series that was drawn on."""
    several: str = _of("refuse", "newest", "join")
    """Of several segmentations of one series. newest: by the date and time of their content; join: the structures of all."""
    overlap: str = _of("refuse", "later-wins")
    """Of two labels at one voxel. later-wins: the later one in `labels` has it."""
    off_grid: str = _of("refuse", "nearest")
    """Of frames and contours that lie beside the slices of their series. nearest: the nearest voxel, or slice, takes them."""
    missing: str = _of("refuse", "background")
    """Of a label for which a case has no structure. background: it is not there."""
    policy: list[str] = field(default_factory=list)
    """Which series are taken or repaired, as `--policy` of predict: `[tilted=accept, gap=resample]`."""


@dataclass(frozen=True)
class DatasetSettings:
    root: str = ""
    """Folder of the data set, or a manifest file (CSV or JSON). Relative paths count from the current folder."""
    layout: str = _of("auto", "msd", "nnunet", "folders", "manifest", "dicom")
    """How the folder is laid out; auto looks for each but dicom in turn."""
    images: str = ""
    """folders: name of the image folder under root; auto: images, imagesTr, image, img, scans, volumes."""
    labels: str = ""
    """folders: name of the label folder under root; auto: labels, labelsTr, label, masks, mask, segmentations."""
    pattern: str = ""
    """folders: regular expression on an image's name without extension, with the group `case` and, with several files a case,
    `channel`: `(?P<case>.+)_(?P<channel>flair|t1c)`. Auto finds common `_suffix` channels by itself."""
    channels: list[str] = field(default_factory=list)
    """Names of the channels in order (`CT` is normalised as CT, the rest by z-score); auto: from the data set."""
    label_names: dict[str, str] = field(default_factory=dict)
    """Names of label values, `{"1": "PZ", "2": "TZ"}`; auto: from the data set, else `label 1`, `label 2`."""
    label_codes: dict[str, list[str]] = field(default_factory=dict)
    """What labels are, for DICOM results, by name or value: `{"PZ": ["SCT 279706003 Peripheral zone of the prostate"]}`, a scheme, a value
    and a meaning; a second code modifies the first, a third is the category in place of Anatomical Structure; auto: no code."""
    label_colours: dict[str, list[int]] = _in(0, 255, {})
    """Colours of labels in DICOM results, by name or value, `{"PZ": [230, 25, 75]}`: red, green, blue; auto: a palette."""
    regions: dict[str, list[int]] = field(default_factory=dict)
    """Overlapping regions that are learnt in place of the labels, in the order of painting: `{"whole": [1, 2, 4], "core": [1, 4]}`."""
    ignore: list[int] = _in(-(2**31), 2**31 - 1, [])
    """Label values of voxels that nobody has judged: neither trained on nor validated; auto: the value named `ignore`."""
    sparse: str = _of("none", "x", "y", "z")
    """Axis of the patient across which only some slices were annotated: slices without any label are not judged."""
    group: str = ""
    """Regular expression on the case name whose first group is the patient (or site): `(patient\\d+)_`."""
    split: str = _of("fraction", "folds")
    """fraction: hold out a share; folds: k folds, of which `fold` is held out."""
    fraction: float = _in(0.0, 0.9, 0.2)
    """Share of the cases (of the groups, where known) that is held out."""
    folds: int = _in(2, 100, 5)
    """Number of folds."""
    fold: int = _in(0, 99, 0)
    """Fold held out for validation."""
    split_seed: int = _in(-1, 2**31 - 1, -1)
    """Seed of the split; -1: the run's seed. Runs with other seeds on the same split need it."""
    validation_cases: list[str] = field(default_factory=list)
    """Names of the cases to hold out; overrides split when not empty."""
    dicom: DicomSettings = field(default_factory=DicomSettings)


@dataclass(frozen=True)
class PlanSettings:
    rules: str = _of("segpipe", "nnunet")
    """nnunet: patch, stages, features, batch and deep supervision as nnU-Net plans them for an 8 GB GPU, to compare with it."""
    file: str = ""
    """A plan to take as it is, written by `segpipe plan out=FILE.json` and perhaps edited; all other settings of plan and network are
    then without effect."""
    memory_gb: float = _in(0.0, 100_000.0, 0.0)
    """Most memory that a step of training may take: batch, then patch, are made smaller until it fits; auto: 70 % of the machine's, on
    a GPU no limit."""
    dims: int = _in(0, 3, 0)
    """2 or 3; 0: auto (2 for pictures, else 3)."""
    resolution: str = _of("full", "low")
    """low: a 3D network on a grid so coarse that a patch sees a quarter of the median scan, where it sees less at the full resolution."""
    spacing_mm: list[float] = _in(0.0, 1000.0, [])
    """Spacing of the network's grid along x, y, z; auto: median, 10th percentile on an anisotropic axis. Here, in `patch_size` and
    in `flips`, a 2D network may have two values instead of three, along the axes of its slices."""
    patch_size: list[int] = _in(1, 4096, [])
    """Voxels of a patch along x, y, z, on pictures `[rows, columns]`, the height first; auto."""
    batch_size: int = _in(0, 4096, 0)
    """Patches a step; auto."""
    normalisation: list[str] = field(default_factory=list)
    """For each channel one of zscore, ct, rescale, none; auto: by channel name."""
    flips: list[bool] = field(default_factory=list)
    """Whether mirroring is allowed along x, y, z; auto: allowed unless labels are lateralised (left/right in their names)."""
    patch_voxels: int = _in(0, 2**30, 0)
    """Most voxels in one patch; auto: 131072 (3D) or 65536 (2D) on a CPU, 2097152 (3D) or 262144 (2D) on a GPU."""
    fit_budget: bool = True
    """With `training.max_minutes`: measure a few steps on this machine before the training, and take half the usual widths, and half the
    batch, where too few fit; `network.features` overrules it. Not where other machines or several processes train."""


@dataclass(frozen=True)
class Effect:
    """One random change: how often, and the range from which its strength is drawn uniformly."""

    probability: float = _in(0.0, 1.0, 0.0)
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class AugmentSettings:
    rotate: Effect = field(default_factory=Effect)
    """Angle in degrees about each axis (2D and strongly anisotropic patches: in the plane only)."""
    translate: Effect = field(default_factory=Effect)
    """Shift along each axis, as a share of the patch."""
    shear: Effect = field(default_factory=Effect)
    """Shear factor between axes."""
    scale: Effect = field(default_factory=Effect)
    """Zoom factor, above 1 makes structures larger; one factor for all axes (strongly anisotropic patches: in the plane)."""
    flip: Effect = field(default_factory=Effect)
    """Mirroring of each axis that the plan allows; the range is not used."""
    elastic: Effect = field(default_factory=Effect)
    """Displacement in voxels (standard deviation) of a smooth random field with a control point every 8 voxels."""
    crop: Effect = field(default_factory=Effect)
    """Random shift of the patch around its chosen centre, as a share of the patch size."""
    whitening: Effect = field(default_factory=Effect)
    """Jitter of the normalisation: an error of the scan's mean and of its relative standard deviation, in standard deviations."""
    noise: Effect = field(default_factory=Effect)
    """Gaussian noise, standard deviation in units of the normalised image."""
    channel_shift: Effect = field(default_factory=Effect)
    """Value added to each channel on its own, in units of the normalised image."""
    brightness: Effect = field(default_factory=Effect)
    """Factor on all values."""
    contrast: Effect = field(default_factory=Effect)
    """Factor on the distance from the patch's mean, result kept in the patch's range."""
    gamma: Effect = field(default_factory=Effect)
    """Exponent on values scaled to the patch's range; mean and standard deviation are kept. Half of the draws on the inverted image."""
    blur: Effect = field(default_factory=Effect)
    """Standard deviation of a Gaussian blur, in voxels."""
    low_resolution: Effect = field(default_factory=Effect)
    """Zoom factor (below 1) to which the patch is shrunk (nearest) and from which it is enlarged again (linear)."""


@dataclass(frozen=True)
class NetworkSettings:
    name: str = _of("unet", "vnet")
    """Architecture: U-Net (Ronneberger 2015) or V-Net (Milletari 2016)."""
    target: str = ""
    """Import path of your own network class, `my_package.MyNet`, built with (in_channels, classes, dims); overrides name."""
    features: list[int] = _in(1, 4096, [])
    """Channels of each stage, finest first; auto: doubled each stage, from 16 (3D U-Net), 8 (3D V-Net), 32 (2D U-Net)."""
    stages: int = _in(0, 8, 0)
    """Number of resolutions; auto: until the coarsest is 4 voxels wide."""
    strides: list[list[int]] = _in(1, 8, [])
    """For each stage, finest first, the step into it along each axis of the network, `[[1, 1, 1], [2, 2, 1], [2, 2, 2]]`; auto: 2
    along an axis while it is long and fine enough. The number of stages follows; a patch set by hand must be a multiple of their
    product."""
    kernel_size: int = _in(0, 9, 0)
    """Kernel size, odd; auto: 3 (the published V-Net has 5); 1 along an axis that is still too coarse."""
    kernels: list[list[int]] = _in(1, 9, [])
    """Kernel sizes, odd, for each stage, finest first, and along each axis of the network; auto: by `kernel_size`."""
    convolutions: int = _in(1, 4, 2)
    """Convolutions a stage (U-Net)."""
    block: str = _of("plain", "residual")
    """Blocks of the U-Net."""
    norm: str = _of("instance", "batch", "group", "none")
    """Normalisation after each convolution."""
    activation: str = _of("leaky_relu", "relu", "prelu", "elu")
    """Activation of the U-Net; the V-Net always has PReLU."""
    pooling: str = _of("stride", "max", "average")
    """How the U-Net steps down: strided convolution, or max or average pooling. The V-Net always has strided convolutions."""
    padding: str = _of("zeros", "reflect", "replicate")
    """How convolutions pad at the border of the patch."""
    dropout: float = _in(0.0, 0.95, 0.0)
    """Share of channels dropped after each block."""
    deep_supervision: bool = True
    """Loss at each resolution but the coarsest, weights 1, 1/2, 1/4 ..."""


@dataclass(frozen=True)
class TrainingSettings:
    max_steps: int = _in(0, 100_000_000, 0)
    """Number of steps; when above 0 max_minutes is not used. Repeatable bit for bit on a CPU."""
    max_minutes: float = _in(0.0, 100_000.0, 0.0)
    """Time for the whole training, data preparation and validation included; 0 with max_steps 0 means 30 minutes."""
    optimiser: str = _of("adamw", "sgd")
    lr: float = _in(0.0, 10.0, 2e-3)
    """Highest learning rate."""
    weight_decay: float = _in(0.0, 1.0, 1e-2)
    momentum: float = _in(0.0, 1.0, 0.99)
    """Nesterov momentum (SGD only)."""
    schedule: str = _of("cosine", "poly")
    """How the learning rate falls to zero at the end of the budget; poly has the exponent 0.9."""
    warmup: float = _in(0.0, 0.5, 0.02)
    """Share of the budget during which the learning rate rises linearly."""
    schedule_file: str = ""
    """`schedule.json` of an earlier run: repeats its steps and learning rates exactly; max_steps and max_minutes are not used."""
    loss: str = _of("dice_ce", "dice", "focal", "tversky")
    """Loss function."""
    class_weights: dict[str, float] = _in(0.0, 1000.0, {})
    """Weight in the loss by the label's name or value, `{"tumour": 3}`; all others have 1."""
    clip: float = _in(0.0, 1e6, 1.0)
    """Largest gradient norm; 0 switches clipping off."""
    ema: float = _in(0.0, 0.99999, 0.99)
    """Decay of the averaged weights that are validated and exported; 0 switches averaging off."""
    precision: str = _of("auto", "fp32", "bf16")
    """auto: bf16 where the processor or GPU computes it fast, else fp32."""
    compile: bool = False
    """Train in code that torch.compile writes for the network, and needs a C++ compiler for (on a GPU Triton as well): the first step takes
    about a minute; as it is, with a warning, where that fails or gives other gradients."""
    cuda_graph: bool = True
    """On one GPU, record a step of one of our own networks once and replay it; as it is, with a warning, where that fails or gives other
    gradients."""
    foreground: float = _in(0.0, 1.0, 0.67)
    """Share of all patches that is centred on a labelled voxel, guaranteed over the run."""
    validate_steps: int = _in(0, 100_000_000, 0)
    """Steps between validations on whole volumes; auto: five in a step budget, about a twentieth of the time in a time budget."""
    validate_cases: int = _in(0, 100_000, 8)
    """Held-out cases that are validated during training; all of them at the end."""
    overlays: int = _in(0, 1000, 8)
    """Validation cases that are drawn into overlays/."""
    init: str = ""
    """Weights to begin with: a model.ts, a checkpoint, or the folder of a run; what fits by name and shape is taken over."""
    thaw: list[float] = _in(0.0, 1.0, [])
    """For each encoder stage, finest first, the share of the budget after which it learns; 1: never; beyond the list: from the start."""
    stage_lr: list[float] = _in(0.0, 1000.0, [])
    """For each encoder stage, finest first, a factor on the learning rate; beyond the list: 1."""
    resume: str = _of("never", "auto")
    """auto: go on from the last checkpoint in run_dir where there is one."""
    devices: int = _in(1, 1024, 1)
    """Processes (CPU) or GPUs; above 1 trains with DDP."""
    workers: int = _in(-1, 64, -1)
    """Loader processes; 0 cuts patches in the training process; -1: up to 4 for a GPU, else 0."""
    cache_gb: float = _in(0.0, 10_000.0, 4.0)
    """Prepared cases are kept in memory up to this size, else on disk in run_dir/cache, which is removed at the end."""
    seeds: int = _in(1, 100, 1)
    """Trainings on the same split with the seeds `seed`, `seed` + 1 ...: reports the spread, and makes one model of all."""
    tensorboard: bool = False
    """Write TensorBoard logs into run_dir/tensorboard (extra `segpipe[tensorboard]`)."""
    mlflow: str = ""
    """MLflow tracking address, `file:./mlruns` (extra `segpipe[mlflow]`)."""
    callback: str = ""
    """Import path of your own Lightning callback class, built without arguments."""


@dataclass(frozen=True)
class InferenceSettings:
    """The windows of validation; `segpipe predict` has options of its own with the same defaults."""

    overlap: float = _in(0.0, 0.95, 0.5)
    """Overlap of neighbouring windows, as a share of the window."""
    batch: int = _in(0, 1024, 0)
    """Windows a forward pass; 0: small windows together, large ones alone."""


@dataclass(frozen=True)
class LaunchSettings:
    """Where the trainings of `folds=all` and `training.seeds` run (extra `segpipe[slurm]`)."""

    cluster: str = _of("none", "local", "slurm")
    """none: one after the other in this process's terminal; local: all at once on this machine; slurm: a job each."""
    options: dict[str, str] = field(default_factory=dict)
    """What submitit's `update_parameters` takes: `{"timeout_min": 240, "slurm_partition": "gpu", "gpus_per_node": 1}`."""


@dataclass(frozen=True)
class Settings:
    name: str = "task"
    """Name of the task, written into the model file."""
    run_dir: str = ""
    """Folder of the run; empty: runs/NAME."""
    seed: int = _in(0, 2**31 - 1, 0)
    """Seed of everything random: split, initial weights, patches, augmentation."""
    folds: str = _of("none", "all")
    """all: one training for each of `dataset.folds` folds, then the choice by out-of-fold predictions, and one model of all."""
    configurations: list[str] = _each_of("auto", "2d", "3d", "3d_low")
    """Plans that are trained side by side (with `folds=all`, each on every fold); the best, or the best pair, by held-out cases becomes
    the model. auto: 3D and 2D, and first 3D at a low resolution where a patch sees less than a quarter of the scan; empty: one plan."""
    device: str = _of("auto", "cpu", "cuda")
    """Where to compute; auto takes a GPU where there is one."""
    threads: int = _in(0, 1024, 0)
    """Processor threads; 0: all cores."""
    out: str = ""
    """Output file of `segpipe preview`."""
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    plan: PlanSettings = field(default_factory=PlanSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    launch: LaunchSettings = field(default_factory=LaunchSettings)
