"""The training config: every option, declared once.

A block with several kinds is a family of frozen dataclasses and one table from kind to class. Adding a kind
is one class here, one line in its table, and one function in the worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gradkeel.contract.options import option

# ---------------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns are used, as what, and what counts as missing in them. ``"*"`` means every column."""

    include: tuple[str, ...] | None = option(
        None, doc="Features to use; null means every column that is not named elsewhere.", min_items=1
    )
    exclude: tuple[str, ...] = option((), doc="Columns that are never features.")
    types: Mapping[str, Literal["numeric", "categorical", "datetime", "text", "id", "boolean"]] = option(
        factory=dict,
        doc="Type by column, over what was found in the file; text and id columns are left out.",
    )
    missing_values: Mapping[str, tuple[str | float, ...]] = option(
        factory=dict,
        doc="Further markers of a missing cell, by column; numbers match by value. They add to the defaults.",
    )
    order: str | None = option(None, doc="Column that orders the rows (time, say); never a feature.")
    group: str | None = option(None, doc="Column whose equal values belong together; never a feature.")
    weight: str | None = option(None, doc="Column of row weights in the loss, not negative; never a feature.")


# ------------------------------------------------------------------------------------------------------ split

_VALIDATION = "Share of all rows in the validation part, which decides when to stop."
_TEST = "Share of all rows in the test part, which nothing is fitted on or chosen by."
_SPLIT_SEED = "Seed of the split."
_MAX_SEED = 2**32 - 1
_FOLDS = (
    "Cross-validation: so many further models are trained, each judged on a fold of the rows outside the "
    "test part that it never saw; the job's own model is trained as without folds. null: none."
)
_REPEATS = "How often the rows are parted into folds anew, with the seeds that follow."
_MOST_FOLDS = 100


@dataclass(frozen=True, kw_only=True)
class RandomSplit:
    """Rows at random: the test part first, then the validation part from the rest."""

    kind: Literal["random"] = "random"
    validation: float = option(0.15, doc=_VALIDATION, minimum=0, below=1)
    test: float = option(0.15, doc=_TEST, minimum=0, below=1)
    seed: int = option(0, doc=_SPLIT_SEED, minimum=0, maximum=_MAX_SEED)
    folds: int | None = option(None, doc=_FOLDS, minimum=2, maximum=_MOST_FOLDS)
    repeats: int = option(1, doc=_REPEATS, minimum=1, maximum=_MOST_FOLDS)


@dataclass(frozen=True, kw_only=True)
class StratifiedSplit:
    """At random with the classes' shares kept (a regression target is stratified by its deciles; of several
    targets, by the first's)."""

    kind: Literal["stratified"] = "stratified"
    validation: float = option(0.15, doc=_VALIDATION, minimum=0, below=1)
    test: float = option(0.15, doc=_TEST, minimum=0, below=1)
    seed: int = option(0, doc=_SPLIT_SEED, minimum=0, maximum=_MAX_SEED)
    folds: int | None = option(None, doc=_FOLDS, minimum=2, maximum=_MOST_FOLDS)
    repeats: int = option(1, doc=_REPEATS, minimum=1, maximum=_MOST_FOLDS)


@dataclass(frozen=True, kw_only=True)
class OrderedSplit:
    """By the order of a column: the first rows train, the last rows test."""

    kind: Literal["ordered"] = "ordered"
    column: str | None = option(None, doc="The ordering column; null means columns.order.")
    validation: float = option(0.15, doc=_VALIDATION, minimum=0, below=1)
    test: float = option(0.15, doc=_TEST, minimum=0, below=1)
    folds: int | None = option(
        None,
        doc="Cross-validation over a growing window: the rows before the test part are cut into one block "
        "more than folds, and each fold's model, trained on the blocks before, is judged on the next. "
        "null: none.",
        minimum=2,
        maximum=_MOST_FOLDS,
    )


@dataclass(frozen=True, kw_only=True)
class GroupSplit:
    """At random by groups: rows with an equal value of the column stay in one part."""

    kind: Literal["group"] = "group"
    column: str | None = option(None, doc="The grouping column; null means columns.group.")
    validation: float = option(0.15, doc="Share of all groups in the validation part.", minimum=0, below=1)
    test: float = option(0.15, doc="Share of all groups in the test part.", minimum=0, below=1)
    seed: int = option(0, doc=_SPLIT_SEED, minimum=0, maximum=_MAX_SEED)
    folds: int | None = option(None, doc=_FOLDS, minimum=2, maximum=_MOST_FOLDS)
    repeats: int = option(1, doc=_REPEATS, minimum=1, maximum=_MOST_FOLDS)


@dataclass(frozen=True, kw_only=True)
class ColumnSplit:
    """By the values of a column of the file; rows with another value are left out and counted."""

    kind: Literal["column"] = "column"
    column: str = option("split", doc="The column that names each row's part; never a feature.")
    train: tuple[str, ...] = option(("train",), doc="Values that mean the training part.", min_items=1)
    validation: tuple[str, ...] = option(("validation",), doc="Values that mean the validation part.")
    test: tuple[str, ...] = option(("test",), doc="Values that mean the test part.")


Split = RandomSplit | StratifiedSplit | OrderedSplit | GroupSplit | ColumnSplit
SPLITS: dict[str, type] = {
    "random": RandomSplit,
    "stratified": StratifiedSplit,
    "ordered": OrderedSplit,
    "group": GroupSplit,
    "column": ColumnSplit,
}

# ---------------------------------------------------------------------------------------------------- prepare


@dataclass(frozen=True, kw_only=True)
class Standard:
    """(x − mean) / standard deviation."""

    kind: Literal["standard"] = "standard"


@dataclass(frozen=True, kw_only=True)
class Robust:
    """(x − median) / (1.4826 · MAD); where the MAD is 0, IQR / 1.349, then the standard deviation."""

    kind: Literal["robust"] = "robust"


@dataclass(frozen=True, kw_only=True)
class MinMax:
    """(x − min) / (max − min) of the training part."""

    kind: Literal["minmax"] = "minmax"


@dataclass(frozen=True, kw_only=True)
class MaxAbs:
    """x / max |x| of the training part."""

    kind: Literal["maxabs"] = "maxabs"


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """The share of training values below x, between n quantiles by straight lines, as a number from 0 to 1 or
    as the quantile of a normal distribution (−5.2 to 5.2). Dates and booleans are standardised."""

    kind: Literal["quantile"] = "quantile"
    n: int = option(1000, doc="Quantiles in the table; never more than rows.", minimum=2, maximum=10_000)
    output: Literal["normal", "uniform"] = option(
        "normal", doc="Distribution of the results on the training part.", choices=("normal", "uniform")
    )


@dataclass(frozen=True, kw_only=True)
class Power:
    """The Yeo-Johnson power that makes the training values most normal, then standardised (Yeo & Johnson
    2000). Where float64 cannot hold its results, standardised alone. Dates and booleans are standardised."""

    kind: Literal["power"] = "power"


@dataclass(frozen=True, kw_only=True)
class Log1p:
    """log(1 + x). A training value of −1 or less is refused at its cell."""

    kind: Literal["log1p"] = "log1p"


@dataclass(frozen=True, kw_only=True)
class SignedLog1p:
    """sign(x) · log(1 + |x|)."""

    kind: Literal["signed_log1p"] = "signed_log1p"


@dataclass(frozen=True, kw_only=True)
class NoScaling:
    """The values as they are."""

    kind: Literal["none"] = "none"


NumericScaler = Standard | Robust | MinMax | MaxAbs | Quantile | Power | Log1p | SignedLog1p | NoScaling
NUMERIC_SCALERS: dict[str, type] = {
    "standard": Standard,
    "robust": Robust,
    "minmax": MinMax,
    "maxabs": MaxAbs,
    "quantile": Quantile,
    "power": Power,
    "log1p": Log1p,
    "signed_log1p": SignedLog1p,
    "none": NoScaling,
}


@dataclass(frozen=True, kw_only=True)
class TargetAuto:
    """Robust where the training targets have heavy tails, else standard; the resolved config says which."""

    kind: Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class TargetStandard:
    """(y − mean) / standard deviation of the training targets."""

    kind: Literal["standard"] = "standard"


@dataclass(frozen=True, kw_only=True)
class TargetRobust:
    """(y − median) / (1.4826 · MAD) of the training targets, with the fallbacks of the robust scaler."""

    kind: Literal["robust"] = "robust"


@dataclass(frozen=True, kw_only=True)
class TargetLog1p:
    """log(1 + y); predictions are exp(z) − 1. A target of −1 or less is refused at its cell."""

    kind: Literal["log1p"] = "log1p"


@dataclass(frozen=True, kw_only=True)
class TargetNone:
    """The target as it is."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class TargetPower:
    """The Yeo-Johnson power that makes the training targets most normal, then standardised. Where its curve
    has an end, predictions are at most one range of the training targets beyond them."""

    kind: Literal["power"] = "power"


TargetScaler = TargetAuto | TargetStandard | TargetRobust | TargetLog1p | TargetPower | TargetNone
TARGET_SCALERS: dict[str, type] = {
    "auto": TargetAuto,
    "standard": TargetStandard,
    "robust": TargetRobust,
    "log1p": TargetLog1p,
    "power": TargetPower,
    "none": TargetNone,
}

_INDICATOR = "Add a 0/1 feature that says where a cell was missing, for columns with missing training cells."


@dataclass(frozen=True, kw_only=True)
class Median:
    """Fill with the training part's median; categories take a level of their own."""

    kind: Literal["median"] = "median"
    indicator: bool = option(False, doc=_INDICATOR)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Fill with the training part's mean; categories take a level of their own."""

    kind: Literal["mean"] = "mean"
    indicator: bool = option(False, doc=_INDICATOR)


@dataclass(frozen=True, kw_only=True)
class MostFrequent:
    """Fill with the training part's most frequent value (the smallest of equals)."""

    kind: Literal["most_frequent"] = "most_frequent"
    indicator: bool = option(False, doc=_INDICATOR)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Fill numeric cells with one value; categories take a level of their own."""

    kind: Literal["constant"] = "constant"
    value: float = option(0.0, doc="The value, in the column's own unit.")
    indicator: bool = option(False, doc=_INDICATOR)


@dataclass(frozen=True, kw_only=True)
class DropRows:
    """Leave out rows with a missing feature, and count them."""

    kind: Literal["drop_rows"] = "drop_rows"


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """End the job at the first missing cell and name it."""

    kind: Literal["refuse"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class Propagate:
    """Let NaN and infinities through to the model; for study and tests."""

    kind: Literal["propagate"] = "propagate"


Missing = Median | Mean | MostFrequent | Constant | DropRows | Refuse | Propagate
MISSING_POLICIES: dict[str, type] = {
    "median": Median,
    "mean": Mean,
    "most_frequent": MostFrequent,
    "constant": Constant,
    "drop_rows": DropRows,
    "refuse": Refuse,
    "propagate": Propagate,
}


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Leave outlying values as they are."""

    kind: Literal["keep"] = "keep"


@dataclass(frozen=True, kw_only=True)
class Winsorize:
    """Clip each numeric feature to quantiles of its training values."""

    kind: Literal["winsorize"] = "winsorize"
    lower: float = option(0.005, doc="Lower quantile.", minimum=0, below=0.5)
    upper: float = option(0.995, doc="Upper quantile.", above=0.5, maximum=1)


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Leave out training rows with an outlying number, and count them. Validation and test rows stay, and
    nothing is left out when predicting."""

    kind: Literal["drop"] = "drop"
    robust_z: float = option(
        8.0,
        doc="Largest |x − median| / (1.4826 · MAD) of a numeric feature in the training part.",
        above=0,
        maximum=1e6,
    )


Outliers = Keep | Winsorize | Drop
OUTLIERS: dict[str, type] = {"keep": Keep, "winsorize": Winsorize, "drop": Drop}

_MIN_COUNT = "Levels with fewer training rows share one level with unseen ones."


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A learned vector per level."""

    kind: Literal["embedding"] = "embedding"
    width: int | None = option(
        None, doc="Length of the vectors; null: min(32, ⌈1.6 · levels^0.56⌉).", minimum=1, maximum=512
    )
    min_count: int = option(2, doc=_MIN_COUNT, minimum=1)


@dataclass(frozen=True, kw_only=True)
class OneHot:
    """A 0/1 feature per level, for the most frequent levels."""

    kind: Literal["onehot"] = "onehot"
    max_levels: int = option(
        50, doc="At most so many levels of a column; the rest share one.", minimum=1, maximum=1000
    )
    min_count: int = option(1, doc=_MIN_COUNT, minimum=1)


@dataclass(frozen=True, kw_only=True)
class Ordinal:
    """One number per level, in the sorted order of the levels, standardised."""

    kind: Literal["ordinal"] = "ordinal"
    min_count: int = option(1, doc=_MIN_COUNT, minimum=1)


Categorical = Embedding | OneHot | Ordinal
CATEGORICALS: dict[str, type] = {"embedding": Embedding, "onehot": OneHot, "ordinal": Ordinal}


@dataclass(frozen=True, kw_only=True)
class NoNeighbors:
    """No neighbour look-up."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class NeighborMeans:
    """Means of the training target over the nearest training rows, in the target's scaling, as further
    inputs; for classes, their shares. A training row never sees itself (nor its group, where the split goes
    by groups); every other row looks up the training rows. Numbers and dates enter a distance as prepared,
    at unit spread, categories by whether they are the same. Targets beyond 8 robust standard deviations
    count as that. The model's file then holds training rows and their targets."""

    kind: Literal["means"] = "means"
    k: tuple[int, ...] = option(
        (3, 8, 24),
        doc="How many neighbours each mean is of; one input for each in each space.",
        minimum=1,
        maximum=500,
        min_items=1,
        max_items=8,
    )
    columns: Literal["auto"] | tuple[str, ...] | tuple[tuple[str, ...], ...] = option(
        "auto",
        doc="Columns that distances are measured by: one list of names, or several lists, each a space of "
        "its own. auto tries all columns and the few that say most, on training rows of which some are held "
        "out, and keeps what lowers the error there, perhaps nothing; the resolved config says what.",
        min_items=1,
    )
    metric: Literal["learned", "scaled"] = option(
        "learned",
        doc="learned: columns weigh what makes near rows alike in their target, found on training rows (one "
        "weight a column, Weinberger & Tesauro 2007); scaled: all weigh the same.",
    )
    rows: int = option(
        50_000,
        doc="Training rows to look up at most, drawn with the seed; predicting takes time in proportion.",
        unit="rows",
        minimum=2,
        maximum=1_000_000,
    )


@dataclass(frozen=True, kw_only=True)
class NoNumericEmbedding:
    """Numeric features enter the model as they are."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class PiecewiseLinear:
    """Each number becomes its place among bins of its column, then a learned vector (arXiv:2203.05556)."""

    kind: Literal["piecewise_linear"] = "piecewise_linear"
    bins: int = option(48, doc="Bins of a column at most.", minimum=2, maximum=1000)
    width: int = option(16, doc="Length of the vectors.", minimum=1, maximum=512)
    by: Literal["quantiles", "tree"] = option(
        "quantiles",
        doc="Edges at the column's quantiles, or where a decision tree on the target splits it.",
        choices=("quantiles", "tree"),
    )


@dataclass(frozen=True, kw_only=True)
class Periodic:
    """Each number becomes sines and cosines of learned frequencies, then a learned vector
    (arXiv:2203.05556)."""

    kind: Literal["periodic"] = "periodic"
    frequencies: int = option(48, doc="Frequencies of a column.", minimum=1, maximum=1000)
    sigma: float = option(
        0.1, doc="Standard deviation of the frequencies at the start.", above=0, maximum=1e3
    )
    width: int = option(16, doc="Length of the vectors.", minimum=1, maximum=512)


NumericEmbedding = NoNumericEmbedding | PiecewiseLinear | Periodic

Neighbors = NoNeighbors | NeighborMeans
NEIGHBORS: dict[str, type] = {"none": NoNeighbors, "means": NeighborMeans}
NUMERIC_EMBEDDINGS: dict[str, type] = {
    "none": NoNumericEmbedding,
    "piecewise_linear": PiecewiseLinear,
    "periodic": Periodic,
}


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """What is done to the columns before they reach the model; everything is fitted on the training part."""

    numeric: NumericScaler = option(
        Standard(),
        doc="Scaling of numeric features.",
        kinds=NUMERIC_SCALERS,
    )
    per_column: Mapping[str, NumericScaler] = option(
        factory=dict,
        doc="Scaling by column, over prepare.numeric.",
        kinds=NUMERIC_SCALERS,
    )
    target: TargetScaler = option(TargetAuto(), doc="Scaling of a regression target.", kinds=TARGET_SCALERS)
    missing: Missing = option(
        Median(indicator=True), doc="What is done about missing cells.", kinds=MISSING_POLICIES
    )
    outliers: Outliers = option(Keep(), doc="What is done about outlying cells.", kinds=OUTLIERS)
    categorical: Categorical = option(Embedding(), doc="How categories enter the model.", kinds=CATEGORICALS)
    neighbors: Neighbors = option(NoNeighbors(), doc="Neighbour look-up.", kinds=NEIGHBORS)
    embedding: NumericEmbedding = option(
        NoNumericEmbedding(),
        doc="Embedding of numeric features, dates included; indicators and one-hot columns stay as they are.",
        kinds=NUMERIC_EMBEDDINGS,
    )


# ------------------------------------------------------------------------------------------------------ model


@dataclass(frozen=True, kw_only=True)
class DefaultInit:
    """The framework's own initialisation of each layer."""

    kind: Literal["default"] = "default"


@dataclass(frozen=True, kw_only=True)
class He:
    """Normal with variance 2 / fan-in (He et al. 2015); for relu."""

    kind: Literal["he"] = "he"


@dataclass(frozen=True, kw_only=True)
class Glorot:
    """Uniform with variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010); for tanh and sigmoid."""

    kind: Literal["glorot"] = "glorot"


@dataclass(frozen=True, kw_only=True)
class Lecun:
    """Normal with variance 1 / fan-in (LeCun et al. 1998); for selu."""

    kind: Literal["lecun"] = "lecun"


@dataclass(frozen=True, kw_only=True)
class Orthogonal:
    """A random orthogonal matrix (Saxe et al. 2014)."""

    kind: Literal["orthogonal"] = "orthogonal"


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Normal with a given standard deviation."""

    kind: Literal["normal"] = "normal"
    std: float = option(0.02, doc="Standard deviation of the weights.", minimum=0, maximum=1e6)


@dataclass(frozen=True, kw_only=True)
class ConstantInit:
    """Every weight the same."""

    kind: Literal["constant"] = "constant"
    value: float = option(0.0, doc="The value of every weight.", minimum=-1e6, maximum=1e6)


Init = DefaultInit | He | Glorot | Lecun | Orthogonal | Normal | ConstantInit
INITS: dict[str, type] = {
    "default": DefaultInit,
    "he": He,
    "glorot": Glorot,
    "lecun": Lecun,
    "orthogonal": Orthogonal,
    "normal": Normal,
    "constant": ConstantInit,
}

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "elu", "selu", "tanh", "sigmoid"]
Norm = Literal["none", "batch", "layer"]

_INIT = "How weights start."
_BIAS_INIT = "The value every bias of a hidden layer starts at; the output layer's starts at 0."
_FREEZE = "Names of layers whose parameters stay as they start (layers.0, layers.1, …)."
_MAX_WIDTH = 8192
_MAX_LAYERS = 256
_MAX_BLOCKS = 64


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One linear layer: prediction = w · x + b."""

    kind: Literal["linear"] = "linear"
    bias: bool = option(True, doc="Whether there is a bias.")
    init: Init = option(DefaultInit(), doc=_INIT, kinds=INITS)
    bias_init: float = option(0.0, doc="The value the bias starts at.", minimum=-1e6, maximum=1e6)


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Fully connected layers of the given widths, then a linear output layer."""

    kind: Literal["mlp"] = "mlp"
    widths: tuple[int, ...] = option(
        (256, 256, 256),
        doc="Units of each hidden layer.",
        minimum=1,
        maximum=_MAX_WIDTH,
        min_items=1,
        max_items=_MAX_LAYERS,
    )
    activation: Activation = option("relu", doc="Activation after each hidden layer.")
    norm: Norm = option("none", doc="Normalisation before each activation.")
    dropout: float = option(0.0, doc="Share of hidden units dropped in a training step.", minimum=0, below=1)
    init: Init = option(He(), doc=_INIT, kinds=INITS)
    bias_init: float = option(0.0, doc=_BIAS_INIT, minimum=-1e6, maximum=1e6)
    freeze: tuple[str, ...] = option((), doc=_FREEZE)


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """A linear layer, then blocks that each add norm → linear → activation → dropout → linear → dropout to
    what they are given, then norm → activation and a linear output (Gorishniy et al. 2021)."""

    kind: Literal["resnet"] = "resnet"
    blocks: int = option(2, doc="Residual blocks.", minimum=1, maximum=_MAX_BLOCKS)
    width: int = option(192, doc="Units between the blocks.", minimum=1, maximum=_MAX_WIDTH)
    hidden_factor: float = option(
        2.0, doc="Units within a block, as a multiple of width.", above=0, maximum=64
    )
    dropout: float = option(
        0.15, doc="Share of the units within a block dropped in a training step.", minimum=0, below=1
    )
    residual_dropout: float = option(
        0.0, doc="Share of a block's results dropped in a training step.", minimum=0, below=1
    )
    activation: Activation = option("relu", doc="Activation within each block and before the output.")
    norm: Norm = option("batch", doc="Normalisation at the start of each block and before the output.")
    init: Init = option(He(), doc=_INIT, kinds=INITS)
    bias_init: float = option(0.0, doc=_BIAS_INIT, minimum=-1e6, maximum=1e6)
    freeze: tuple[str, ...] = option((), doc=_FREEZE)

    @property
    def hidden(self) -> int:
        """Units within a block."""
        return max(1, int(self.width * self.hidden_factor))


@dataclass(frozen=True, kw_only=True)
class TabM:
    """Several fully connected networks in one, which share nearly all weights and are trained side by side,
    each by its own loss; the prediction is their mean (Gorishniy et al. 2025). A step takes about as long as
    one of a single network on ``members`` times as many rows."""

    kind: Literal["tabm"] = "tabm"
    members: int = option(8, doc="Networks in one.", minimum=1, maximum=256)
    blocks: int = option(3, doc="Hidden layers.", minimum=1, maximum=_MAX_BLOCKS)
    width: int = option(256, doc="Units of each hidden layer.", minimum=1, maximum=_MAX_WIDTH)
    dropout: float = option(0.1, doc="Share of hidden units dropped in a training step.", minimum=0, below=1)
    activation: Activation = option("relu", doc="Activation after each hidden layer.")
    mini: bool = option(
        True,
        doc="Each member has factors of the inputs and an output layer of its own, and no more; false: "
        "factors of the inputs and results, and biases, of every layer too (BatchEnsemble).",
    )
    init: Init = option(He(), doc=_INIT, kinds=INITS)
    bias_init: float = option(0.0, doc=_BIAS_INIT, minimum=-1e6, maximum=1e6)
    freeze: tuple[str, ...] = option((), doc=_FREEZE)


@dataclass(frozen=True, kw_only=True)
class LinearLayer:
    """A fully connected layer."""

    kind: Literal["linear"] = "linear"
    units: int = option(64, doc="Units of the layer.", minimum=1, maximum=_MAX_WIDTH)
    bias: bool = option(True, doc="Whether there is a bias.")


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """max(0, x)."""

    kind: Literal["relu"] = "relu"


@dataclass(frozen=True, kw_only=True)
class LeakyReLU:
    """x where positive, 0.01 · x elsewhere."""

    kind: Literal["leaky_relu"] = "leaky_relu"


@dataclass(frozen=True, kw_only=True)
class GELU:
    """x · Φ(x) (Hendrycks & Gimpel 2016)."""

    kind: Literal["gelu"] = "gelu"


@dataclass(frozen=True, kw_only=True)
class SiLU:
    """x · sigmoid(x)."""

    kind: Literal["silu"] = "silu"


@dataclass(frozen=True, kw_only=True)
class ELU:
    """x where positive, exp(x) − 1 elsewhere."""

    kind: Literal["elu"] = "elu"


@dataclass(frozen=True, kw_only=True)
class SELU:
    """The self-normalising ELU (Klambauer et al. 2017)."""

    kind: Literal["selu"] = "selu"


@dataclass(frozen=True, kw_only=True)
class Tanh:
    """The hyperbolic tangent."""

    kind: Literal["tanh"] = "tanh"


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """1 / (1 + exp(−x))."""

    kind: Literal["sigmoid"] = "sigmoid"


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Drops units at random in training steps."""

    kind: Literal["dropout"] = "dropout"
    p: float = option(0.1, doc="Share of units dropped.", minimum=0, below=1)


@dataclass(frozen=True, kw_only=True)
class BatchNorm:
    """Batch normalisation."""

    kind: Literal["batch_norm"] = "batch_norm"


@dataclass(frozen=True, kw_only=True)
class LayerNorm:
    """Layer normalisation."""

    kind: Literal["layer_norm"] = "layer_norm"


Layer = (
    LinearLayer
    | ReLU
    | LeakyReLU
    | GELU
    | SiLU
    | ELU
    | SELU
    | Tanh
    | Sigmoid
    | Dropout
    | BatchNorm
    | LayerNorm
)
LAYERS: dict[str, type] = {
    "linear": LinearLayer,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "gelu": GELU,
    "silu": SiLU,
    "elu": ELU,
    "selu": SELU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "dropout": Dropout,
    "batch_norm": BatchNorm,
    "layer_norm": LayerNorm,
}


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """The given layers in order, then a linear output layer of the width that the task needs."""

    kind: Literal["sequential"] = "sequential"
    layers: tuple[Layer, ...] = option(
        (LinearLayer(), ReLU()), doc="The layers.", kinds=LAYERS, min_items=1, max_items=_MAX_LAYERS
    )
    init: Init = option(He(), doc=_INIT, kinds=INITS)
    bias_init: float = option(0.0, doc=_BIAS_INIT, minimum=-1e6, maximum=1e6)
    freeze: tuple[str, ...] = option((), doc=_FREEZE)


@dataclass(frozen=True, kw_only=True)
class Windowed:
    """What every model over windows has. A window is the last ``window`` rows of one series, in the order of
    columns.order and within one value of columns.group; each is read once a step, by index."""

    kind: str
    width: int = option(64, doc="Units of each layer.", minimum=1, maximum=_MAX_WIDTH)
    layers: int = option(1, doc="Layers one upon another.", minimum=1, maximum=32)
    window: int = option(24, doc="Rows of a window.", unit="rows", minimum=1, maximum=10_000)
    horizon: int = option(
        1,
        doc="Task forecast: the target is predicted so many rows after the window's last one (that one step, "
        "not those before it). Other tasks predict the target of the window's last row; then 1.",
        unit="rows",
        minimum=1,
        maximum=10_000,
    )
    change_from: Literal["auto", "none", "last", "season"] = option(
        "auto",
        doc="Task forecast: what the network predicts the change from, which is then added to its output: "
        "the target's last value in the window, or its value whole seasons before the step that is predicted "
        "(the season's length is found in the training targets). none: it predicts the value itself. auto: "
        "whichever of these spreads least in the training part; the resolved config has the choice. Needs a "
        "target and a past of it that are scaled alike: both without a curve, or both by log1p.",
        choices=("auto", "none", "last", "season"),
    )
    dropout: float = option(
        0.0, doc="Share of each layer's outputs dropped in a training step.", minimum=0, below=1
    )
    init: Init = option(
        DefaultInit(), doc=_INIT + " Each gate's matrices start as matrices of their own.", kinds=INITS
    )
    bias_init: float = option(0.0, doc=_BIAS_INIT, minimum=-1e6, maximum=1e6)
    freeze: tuple[str, ...] = option((), doc=_FREEZE)


@dataclass(frozen=True, kw_only=True)
class GRU(Windowed):
    """Gated recurrent units over windows of a series (Cho et al. 2014), then a linear output layer on the
    last row's state. Needs columns.order."""

    kind: Literal["gru"] = "gru"


@dataclass(frozen=True, kw_only=True)
class LSTM(Windowed):
    """Long short-term memory over windows of a series (Hochreiter & Schmidhuber 1997), then a linear output
    layer on the last row's state; biases of forget gates start 1 higher. Needs columns.order."""

    kind: Literal["lstm"] = "lstm"


@dataclass(frozen=True, kw_only=True)
class TCN(Windowed):
    """Causal convolutions over windows of a series, twice as far apart in each layer, with skip connections
    (arXiv:1803.01271), then a linear output layer on the last row. Layers see 1 + 2 · (kernel − 1) ·
    (2^layers − 1) rows. Needs columns.order."""

    kind: Literal["tcn"] = "tcn"
    layers: int = option(3, doc="Layers one upon another.", minimum=1, maximum=16)
    kernel: int = option(3, doc="Rows that a convolution takes together.", unit="rows", minimum=1, maximum=64)


Model = Linear | MLP | ResNet | TabM | Sequential | GRU | LSTM | TCN
MODELS: dict[str, type] = {
    "linear": Linear,
    "mlp": MLP,
    "resnet": ResNet,
    "tabm": TabM,
    "sequential": Sequential,
    "gru": GRU,
    "lstm": LSTM,
    "tcn": TCN,
}

# ------------------------------------------------------------------------------------------------------- loss


@dataclass(frozen=True, kw_only=True)
class Huber:
    """½r² up to |r| = delta, then delta·(|r| − ½·delta): delta · smooth_l1(beta = delta) (Huber 1964)."""

    kind: Literal["huber"] = "huber"
    delta: Literal["auto"] | float = option(
        1.0,
        doc="Where the loss turns from quadratic to linear. auto: 1.345 · 1.4826 · MAD of the residuals of "
        "a short pilot fit on training rows, fixed before the first step; the resolved config holds it.",
        unit="prepared target units",
        above=0,
        maximum=1e9,
    )


@dataclass(frozen=True, kw_only=True)
class SmoothL1:
    """½r²/beta up to |r| = beta, then |r| − ½·beta."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: float = option(
        1.0,
        doc="Where the loss turns from quadratic to linear.",
        unit="prepared target units",
        above=0,
        maximum=1e9,
    )


@dataclass(frozen=True, kw_only=True)
class MSE:
    """Mean squared error."""

    kind: Literal["mse"] = "mse"


@dataclass(frozen=True, kw_only=True)
class MAE:
    """Mean absolute error; aims at the median."""

    kind: Literal["mae"] = "mae"


@dataclass(frozen=True, kw_only=True)
class LogCosh:
    """log(cosh(r)): ½r² near 0, |r| − log 2 far out, smooth everywhere."""

    kind: Literal["log_cosh"] = "log_cosh"


@dataclass(frozen=True, kw_only=True)
class Poisson:
    """exp(z) − y·z for counts and rates y ≥ 0; the prediction is exp(z), so never below 0. Targets are
    divided by their training mean, which changes the loss by a factor and a constant alone; prepare.target
    must be none or auto."""

    kind: Literal["poisson"] = "poisson"


@dataclass(frozen=True, kw_only=True)
class Focal:
    """(1 − p)^gamma · cross-entropy, p being the probability of the row's class: rows that are clear already
    count less (Lin et al. 2017). For binary and multiclass tasks; its probabilities are not calibrated."""

    kind: Literal["focal"] = "focal"
    gamma: float = option(
        2.0, doc="How fast clear rows lose weight; 0 is the plain cross-entropy.", minimum=0, maximum=20
    )


@dataclass(frozen=True, kw_only=True)
class BCE:
    """Binary cross-entropy on logits."""

    kind: Literal["bce"] = "bce"
    pos_weight: float | None = option(
        None, doc="Weight of the positive class's term; null means 1.", above=0, maximum=1e6
    )


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy over the classes, on logits."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = option(
        0.0, doc="Share of the target's mass spread over all classes.", minimum=0, below=1
    )
    class_weights: Literal["none", "balanced"] = option(
        "none", doc="balanced: each class weighted by rows / (classes · rows of the class)."
    )


@dataclass(frozen=True, kw_only=True)
class QuantileLoss:
    """The pinball loss τ·r⁺ + (1 − τ)·r⁻ of the residual r = y − prediction, its mean over the levels τ: one
    output a level, of task quantile (Koenker & Bassett 1978). Predictions are sorted in each row, so that
    quantiles never cross, which can only lower the loss (Chernozhukov et al. 2010)."""

    kind: Literal["quantile"] = "quantile"
    levels: tuple[float, ...] = option(
        (0.1, 0.5, 0.9),
        doc="The quantiles to predict, ascending.",
        above=0,
        below=1,
        min_items=1,
        max_items=99,
    )


Loss = Huber | SmoothL1 | MSE | MAE | LogCosh | QuantileLoss | Poisson | BCE | CrossEntropy | Focal
LOSSES: dict[str, type] = {
    "huber": Huber,
    "smooth_l1": SmoothL1,
    "mse": MSE,
    "mae": MAE,
    "log_cosh": LogCosh,
    "quantile": QuantileLoss,
    "poisson": Poisson,
    "bce": BCE,
    "cross_entropy": CrossEntropy,
    "focal": Focal,
}
REGRESSION_LOSSES = ("huber", "smooth_l1", "mse", "mae", "log_cosh", "poisson")

# -------------------------------------------------------------------------------------------------- optimizer

if TYPE_CHECKING:
    Rate = float  # what it is once the data is there
else:
    Rate = Literal["auto"] | float
    """A learning rate as submitted: a number, or "auto" until the worker has found one."""

_LR = 'Learning rate; "auto": found by a range test on training rows, confirmed by a dry run.'
_EPS = "Added to the denominator."
_MAX_LR = 1e6


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with optional momentum; weight decay adds to the gradient."""

    kind: Literal["sgd"] = "sgd"
    lr: Rate = option(0.01, doc=_LR, above=0, maximum=_MAX_LR)
    momentum: float = option(0.0, doc="Share of the last step that is kept.", minimum=0, below=1)
    nesterov: bool = option(False, doc="Nesterov's form of momentum; needs momentum > 0 and dampening 0.")
    dampening: float = option(0.0, doc="Share of the gradient kept out of the momentum.", minimum=0, below=1)
    weight_decay: float = option(0.0, doc="L2 penalty, added to the gradient.", minimum=0, maximum=1e3)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba 2015); weight decay adds to the gradient."""

    kind: Literal["adam"] = "adam"
    lr: Rate = option(1e-3, doc=_LR, above=0, maximum=_MAX_LR)
    betas: tuple[float, ...] = option(
        (0.9, 0.999), doc="Decay of the two moments.", minimum=0, below=1, min_items=2, max_items=2
    )
    eps: float = option(1e-8, doc=_EPS, above=0, maximum=1)
    weight_decay: float = option(0.0, doc="L2 penalty, added to the gradient.", minimum=0, maximum=1e3)


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: Rate = option(1e-3, doc=_LR, above=0, maximum=_MAX_LR)
    betas: tuple[float, ...] = option(
        (0.9, 0.999), doc="Decay of the two moments.", minimum=0, below=1, min_items=2, max_items=2
    )
    eps: float = option(1e-8, doc=_EPS, above=0, maximum=1)
    weight_decay: float = option(3e-4, doc="Decoupled weight decay.", minimum=0, maximum=1e3)


@dataclass(frozen=True, kw_only=True)
class RMSprop:
    """RMSprop (Hinton 2012)."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: Rate = option(1e-3, doc=_LR, above=0, maximum=_MAX_LR)
    alpha: float = option(0.99, doc="Decay of the second moment.", minimum=0, below=1)
    eps: float = option(1e-8, doc=_EPS, above=0, maximum=1)
    momentum: float = option(0.0, doc="Share of the last step that is kept.", minimum=0, below=1)
    weight_decay: float = option(0.0, doc="L2 penalty, added to the gradient.", minimum=0, maximum=1e3)


@dataclass(frozen=True, kw_only=True)
class Adagrad:
    """AdaGrad (Duchi et al. 2011)."""

    kind: Literal["adagrad"] = "adagrad"
    lr: Rate = option(0.01, doc=_LR, above=0, maximum=_MAX_LR)
    eps: float = option(1e-10, doc=_EPS, above=0, maximum=1)
    weight_decay: float = option(0.0, doc="L2 penalty, added to the gradient.", minimum=0, maximum=1e3)


@dataclass(frozen=True, kw_only=True)
class NAdam:
    """Adam with Nesterov's form of momentum, which grows over the first steps (Dozat 2016)."""

    kind: Literal["nadam"] = "nadam"
    lr: Rate = option(2e-3, doc=_LR, above=0, maximum=_MAX_LR)
    betas: tuple[float, ...] = option(
        (0.9, 0.999), doc="Decay of the two moments.", minimum=0, below=1, min_items=2, max_items=2
    )
    eps: float = option(1e-8, doc=_EPS, above=0, maximum=1)
    momentum_decay: float = option(4e-3, doc="How fast the momentum grows to betas[0].", minimum=0, maximum=1)
    weight_decay: float = option(0.0, doc="L2 penalty, added to the gradient.", minimum=0, maximum=1e3)


@dataclass(frozen=True, kw_only=True)
class RAdam:
    """Adam that divides by the second moment only once enough steps stand behind it (Liu et al. 2020)."""

    kind: Literal["radam"] = "radam"
    lr: Rate = option(1e-3, doc=_LR, above=0, maximum=_MAX_LR)
    betas: tuple[float, ...] = option(
        (0.9, 0.999), doc="Decay of the two moments.", minimum=0, below=1, min_items=2, max_items=2
    )
    eps: float = option(1e-8, doc=_EPS, above=0, maximum=1)
    weight_decay: float = option(0.0, doc="L2 penalty, added to the gradient.", minimum=0, maximum=1e3)


Optimizer = SGD | Adam | AdamW | NAdam | RAdam | RMSprop | Adagrad
OPTIMIZERS: dict[str, type] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}

# --------------------------------------------------------------------------------------------------- schedule

_WARMUP = "Steps over which the learning rate rises linearly from lr / (steps + 1)."


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule:
    """The same learning rate throughout."""

    kind: Literal["constant"] = "constant"
    warmup_steps: int = option(0, doc=_WARMUP, minimum=0, maximum=10**9)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from lr down to lr · min_factor over the whole budget (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    min_factor: float = option(0.0, doc="Last learning rate as a share of lr.", minimum=0, maximum=1)
    warmup_steps: int = option(0, doc=_WARMUP, minimum=0, maximum=10**9)


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Multiply the rate by ``factor`` when the validation loss has not improved for ``patience`` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: float = option(0.5, doc="What the learning rate is multiplied by.", above=0, below=1)
    patience: int = option(5, doc="Epochs without improvement.", unit="epochs", minimum=1, maximum=10**6)
    warmup_steps: int = option(0, doc=_WARMUP, minimum=0, maximum=10**9)


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """From lr / div_factor up to lr and then down to nearly 0, each along half a cosine (Smith & Topin
    2018). A warm-up leads to its first value, and the cycle takes the steps that are left."""

    kind: Literal["one_cycle"] = "one_cycle"
    pct_start: float = option(0.3, doc="Share of the steps in which it rises.", above=0, below=1)
    div_factor: float = option(25.0, doc="It begins at lr over this.", minimum=1, maximum=1e9)
    final_div_factor: float = option(
        1e4, doc="It ends at its first value over this.", minimum=1, maximum=1e12
    )
    warmup_steps: int = option(0, doc=_WARMUP, minimum=0, maximum=10**9)


@dataclass(frozen=True, kw_only=True)
class StepSchedule:
    """Multiply the rate by ``factor`` after every so many epochs."""

    kind: Literal["step"] = "step"
    every: int = option(30, doc="Epochs at one rate.", unit="epochs", minimum=1, maximum=10**6)
    factor: float = option(0.1, doc="What the learning rate is multiplied by.", above=0, maximum=1)
    warmup_steps: int = option(0, doc=_WARMUP, minimum=0, maximum=10**9)


Schedule = ConstantSchedule | Cosine | OneCycle | StepSchedule | Plateau
SCHEDULES: dict[str, type] = {
    "constant": ConstantSchedule,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "step": StepSchedule,
    "plateau": Plateau,
}

# ------------------------------------------------------------------------------------------ clips and guards


@dataclass(frozen=True, kw_only=True)
class NormClip:
    """Scale the whole gradient so that its norm is at most ``max_norm`` (Pascanu et al. 2013)."""

    kind: Literal["norm"] = "norm"
    max_norm: float = option(1.0, doc="Largest global gradient norm.", above=0, maximum=1e30)


@dataclass(frozen=True, kw_only=True)
class ValueClip:
    """Clip every entry of the gradient to ±max_value."""

    kind: Literal["value"] = "value"
    max_value: float = option(0.5, doc="Largest size of an entry.", above=0, maximum=1e30)


@dataclass(frozen=True, kw_only=True)
class LayerNormClip:
    """Scale the gradient of each layer, weights and biases together, so that its norm is at most
    ``max_norm``."""

    kind: Literal["layer_norm"] = "layer_norm"
    max_norm: float = option(1.0, doc="Largest gradient norm of a layer.", above=0, maximum=1e30)


@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """Clip the gradient of each unit against the size of its own weights: ‖g‖ ≤ factor · max(‖w‖, floor).

    A unit is a row of a weight matrix, a whole vector of biases, or a column's share of an embedding of
    numbers. The output layer is left alone (arXiv:2102.06171).
    """

    kind: Literal["adaptive"] = "adaptive"
    factor: float = option(
        0.01, doc="Largest gradient norm of a unit as a share of its weights' norm.", above=0, maximum=1e6
    )
    floor: float = option(1e-3, doc="Norm that weights count with at least.", above=0, maximum=1e6)


@dataclass(frozen=True, kw_only=True)
class PercentileClip:
    """Clip the norm at a percentile of the norms so far, the present one among them (AutoClip,
    arXiv:2007.14469). Norms that are not finite never count."""

    kind: Literal["percentile"] = "percentile"
    p: float = option(90.0, doc="The percentile.", unit="percent", minimum=0, maximum=100)
    window: int = option(1000, doc="So many of the latest norms count.", minimum=2, maximum=100_000)


@dataclass(frozen=True, kw_only=True)
class ZScoreClip:
    """Shorten a gradient whose norm lies more than z standard deviations above a moving mean, to the mean and
    z² / its own distance of them (ZClip, arXiv:2504.02507). Norms that are not finite never count."""

    kind: Literal["zscore"] = "zscore"
    alpha: float = option(0.97, doc="Decay of the moving mean and variance.", minimum=0, below=1)
    z: float = option(
        2.5, doc="Standard deviations above the mean that are let through.", above=0, maximum=1e6
    )
    warmup: int = option(
        25, doc="Norms that the first mean and variance are taken of, unclipped.", minimum=2, maximum=100_000
    )


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """g / ‖g‖. A zero gradient stays zero. Under SGD with a constant learning rate it cannot settle."""

    kind: Literal["normalize"] = "normalize"
    epsilon: float = option(1e-12, doc="Norms below this are left alone.", above=0, maximum=1)


Clip = NormClip | ValueClip | LayerNormClip | AdaptiveClip | PercentileClip | ZScoreClip | Normalize
CLIPS: dict[str, type] = {
    "norm": NormClip,
    "value": ValueClip,
    "layer_norm": LayerNormClip,
    "adaptive": AdaptiveClip,
    "percentile": PercentileClip,
    "zscore": ZScoreClip,
    "normalize": Normalize,
}


@dataclass(frozen=True, kw_only=True)
class SkipNonfinite:
    """Skip a step whose gradient is not finite; after too many in a row the run has diverged."""

    kind: Literal["skip_nonfinite"] = "skip_nonfinite"
    max_consecutive: int = option(
        5, doc="Skipped steps in a row after which the run ends as diverged.", minimum=1, maximum=10**6
    )


@dataclass(frozen=True, kw_only=True)
class SkipOutlier:
    """Skip a step whose gradient norm lies far above those of the steps before it.

    It counts among the later ones as no larger than the limit, so that a lasting rise is let through soon.
    Norms that are not finite are left to other guards and never count.
    """

    kind: Literal["skip_outlier"] = "skip_outlier"
    z: float = option(
        6.0, doc="Standard deviations above the mean that are let through.", above=0, maximum=1e6
    )
    window: int = option(
        128,
        doc="So many of the latest norms count; 16 of them, or all, come first.",
        minimum=2,
        maximum=100_000,
    )


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """Where loss or gradient is not finite, go back to the weights and the optimizer's state after the
    best epoch so far (at first: to the beginning) and on with a lower learning rate.

    Behind skip_nonfinite it acts only where that would end the run. After ``max`` times the run has diverged.
    """

    kind: Literal["rollback"] = "rollback"
    lr_factor: float = option(
        0.5, doc="What the learning rate is multiplied by each time.", above=0, maximum=1
    )
    max: int = option(3, doc="Times that it goes back.", minimum=1, maximum=1000)


@dataclass(frozen=True, kw_only=True)
class StopAfter:
    """End the run as diverged once the guards before it have stepped in at so many steps."""

    kind: Literal["stop_after"] = "stop_after"
    interventions: int = option(
        100, doc="Steps with an intervention that end the run.", minimum=1, maximum=10**9
    )


Guard = SkipNonfinite | SkipOutlier | Rollback | StopAfter
GUARDS: dict[str, type] = {
    "skip_nonfinite": SkipNonfinite,
    "skip_outlier": SkipOutlier,
    "rollback": Rollback,
    "stop_after": StopAfter,
}

# ----------------------------------------------------------------------------------------- budget and health


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long the training may take."""

    epochs: int = option(100, doc="Most passes over the training part.", minimum=1, maximum=1_000_000)
    batch_size: int = option(256, doc="Rows a step.", unit="rows", minimum=1, maximum=1_048_576)
    patience: int = option(
        16,
        doc="Epochs without a better validation loss after which training ends; 0 trains to the last epoch.",
        unit="epochs",
        minimum=0,
        maximum=1_000_000,
    )
    max_seconds: float | None = option(
        600.0, doc="Most seconds of training; null: no limit.", unit="seconds", above=0, maximum=1e7
    )
    max_memory_mb: int | None = option(
        None, doc="Most memory of the job; null: the worker's limit.", unit="MiB", minimum=256, maximum=10**7
    )
    ema: float | None = option(
        None,
        doc="Share of the newest weights in a moving average of them, which is then what is validated and "
        "returned; early steps count more. null: the weights themselves.",
        above=0,
        maximum=1,
    )


@dataclass(frozen=True, kw_only=True)
class Health:
    """What is watched while training, and what is tried afterwards."""

    tier: Literal["economy", "standard", "full"] = option(
        "standard",
        doc="How much is measured. economy: loss, gradient norms, clips, learning rate. standard: also norms "
        "by layer, and now and then how alive units and gradients are. full: also how gradients agree, how "
        "noisy they are, how they and the weights spread, what each column adds, and the curvature.",
        choices=("economy", "standard", "full"),
    )
    gradient_check: bool = option(True, doc="Compare autograd with finite differences in float64.")
    curvature: bool = option(
        False,
        doc="How sharply the loss bends at the first and at the last weights (largest eigenvalue of Hessian "
        "and Gauss–Newton matrix, trace, density of eigenvalues), and the learning rate above which steps no "
        "longer settle there. Measured in float64 on up to 512 training rows, after the training.",
    )
    counterfactual: bool = option(
        False,
        doc="Train again for at most 500 steps, from the same weights and in the same batch order: with "
        "everything, without scaling, with the squared loss in place of Huber, without clips and guards, and "
        "without all of these. What came of each stands in the report; the job's model is the same either "
        "way. Each takes a tenth of max_seconds at most, beside the training.",
    )
    repair: int = option(
        0,
        doc="How many repairs may be tried. On a critical finding the training is run again with the change "
        "that the finding proposes, from the last good weights or from the start; it is kept unless it is "
        "worse on the same validation rows, in target units; where nothing critical is left, unless it is "
        "worse beyond chance. All share budget.max_seconds. Needs a "
        "validation part; not together with folds. 0: none.",
        minimum=0,
        maximum=10,
    )
    repair_allow: tuple[Literal["loss", "target", "rows", "columns"], ...] = option(
        (),
        doc="What a repair may change although it changes what is estimated or from what: loss; target, its "
        "transform or, under other losses than mse, mae and quantile, its scaling; rows, leaving some out; "
        "columns, leaving some out or reading them otherwise. Anything else of a finding's change needs no "
        "leave.",
        choices=("loss", "target", "rows", "columns"),
        max_items=4,
    )


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a classifier's answers are made by; chosen on the validation part.

    What is not applied is still told in the report.
    """

    calibrate: Literal["none", "temperature"] = option(
        "none",
        doc="temperature: divide the logits by one number where that betters the validation log loss by "
        "cross-fit (Guo et al. 2017).",
        choices=("none", "temperature"),
    )
    threshold: Literal["half", "f1", "balanced_accuracy"] = option(
        "half",
        doc="Binary: the positive class is named above this probability: one half, or what makes F1 or the "
        "balanced accuracy (and so Youden's J) largest.",
        choices=("half", "f1", "balanced_accuracy"),
    )


# ------------------------------------------------------------------------------------------------- the whole

TASKS = ("auto", "regression", "binary", "multiclass", "quantile", "forecast")
PRECISIONS = ("float32", "bf16", "fp16", "auto")
PRESETS = ("fast", "standard", "best", "custom")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The whole config of a training job."""

    dataset_id: str | None = option(None, doc="Id of the data set.")
    model_id: str | None = option(
        None,
        doc="Id of an earlier model of the project: training begins with its weights and keeps its "
        "preparation. target, task, model, prepare, loss and columns are taken from it where they are not "
        "given, and refused where they differ from what its weights were trained with; freeze, dropout and "
        "everything else is free. Not for models over windows. null: fresh weights.",
    )
    target: tuple[str, ...] | str = option(
        "",
        doc="The column to predict, or a list of numeric columns that one regression predicts together.",
        min_items=1,
        max_items=64,
    )
    task: Literal["auto", "regression", "binary", "multiclass", "quantile", "forecast"] = option(
        "auto",
        doc="auto: two distinct targets make it binary, text or categories multiclass, numbers regression; "
        "the loss quantile makes it quantile, several targets make it regression. "
        "forecast: later values of a series from windows of earlier ones, the target's own among them; needs "
        "columns.order and a model gru, lstm or tcn.",
        choices=TASKS,
    )
    preset: Literal["fast", "standard", "best", "custom"] = option(
        "standard", doc="Fills what is not given.", choices=PRESETS
    )
    columns: Columns = option(Columns(), doc="Columns and their types.")
    split: Split = option(RandomSplit(), doc="How rows are parted.", kinds=SPLITS)
    prepare: Prepare = option(Prepare(), doc="Preparation of the columns.")
    model: Model = option(
        MLP(),
        doc="The model.",
        kinds=MODELS,
    )
    loss: Loss = option(Huber(), doc="The loss.", kinds=LOSSES)
    optimizer: Optimizer = option(AdamW(), doc="The optimizer.", kinds=OPTIMIZERS)
    schedule: Schedule = option(ConstantSchedule(), doc="The learning rate's course.", kinds=SCHEDULES)
    clips: tuple[Clip, ...] = option(
        (NormClip(),),
        doc="Gradient clips, applied in order; an empty list means none.",
        kinds=CLIPS,
        max_items=8,
    )
    guards: tuple[Guard, ...] = option(
        (SkipNonfinite(),),
        doc="Guards, asked in order before the clips.",
        kinds=GUARDS,
        max_items=8,
    )
    budget: Budget = option(Budget(), doc="How long training may take.")
    health: Health = option(Health(), doc="What is watched.")
    output: Output = option(Output(), doc="What a classifier's answers are made by.")
    seed: int = option(
        0, doc="Seed of initialisation, batch order and dropout.", minimum=0, maximum=_MAX_SEED
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", doc="Where the model trains.", choices=("auto", "cpu", "cuda")
    )
    precision: Literal["float32", "bf16", "fp16", "auto"] = option(
        "float32",
        doc="Number format of the matrix products in training; weights, gradients and the optimizer stay "
        "float32, and so do validation and the model that is returned. fp16 scales the loss, and is for "
        "accelerators: CPUs emulate it, slowly. auto: bf16 where the steps of a dry run were faster by it, "
        "else float32; the resolved config has the choice, so that submitting that again trains the same.",
        choices=PRECISIONS,
    )
    labels: Mapping[str, str] = option(factory=dict, doc="Your own labels, shown in lists.", max_items=64)
    chosen: Mapping[str, str] = option(
        factory=dict,
        doc="What the preset and the data decided, and why, by JSON pointer. Gradkeel writes it into the "
        "resolved config; a resolved config that is submitted again keeps it.",
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target column, in order."""
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def target_text(self) -> str:
        """The targets as one text, for titles."""
        return target_text(self.target)


def target_text(target: Any) -> str:
    """A config's ``target`` as one text: the names, with commas between them."""
    return target if isinstance(target, str) else ", ".join(map(str, target or ()))
