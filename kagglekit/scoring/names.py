"""Names of metrics: their parts, and what may have been meant by one that is not known."""

import difflib
import re
from collections.abc import Iterable

from kagglekit.declared import read_names

OTHERS = {
    "acc": ["accuracy"],
    "bac bacc balancedacc uar averagerecall avgrec recallmacro": ["balanced_accuracy"],
    "f fscore fmeasure f1score f1binary binaryf1": ["f1"],
    "fbeta fbetascore": ["f0.5", "f2"],
    "hammingloss": ["hamming"],
    "meanf1 meanfscore f1sample f1example f1examples": ["f1_samples", "f1_macro"],
    "jaccard iou jaccardscore": ["jaccard_samples"],
    "matthews matthewscorrcoef phi matthewscorrelation": ["mcc"],
    "kappa cohen cohenskappa": ["qwk", "kappa_linear", "cohen_kappa"],
    "quadratickappa quadraticweightedkappa kappaquadratic quadratic weightedkappa": ["qwk"],
    "linearweightedkappa lwk": ["kappa_linear"],
    "auc auroc rocaucscore aucroc areaunderroc gini meancolumnwiseauc": ["roc_auc"],
    "jigsawauc jigsawbias biasauc unintendedbias subgroupauc": ["bias_auc_by:male,female"],
    "gauc groupauc groupedauc rocaucby aucby": ["roc_auc_by:COLUMN"],
    "prauc aucpr auprc ap averageprecisionscore": ["average_precision"],
    "crossentropy logistic nll bce binarycrossentropy categoricalcrossentropy multilogloss mcll": ["log_loss"],
    "brierscore brierscoreloss brierloss": ["brier"],
    "meansquarederror l2": ["mse"],
    "rootmeansquarederror": ["rmse"],
    "rootmeansquaredlogerror rmsloge msle meansquaredlogerror": ["rmsle"],
    "meancolumnwisermse columnwisermse": ["mcrmse"],
    "meanabsoluteerror l1": ["mae"],
    "meanabsolutepercentageerror": ["mape"],
    "pearsonr correlation corr": ["pearson"],
    "spearmanr rho spearmancorrelation meanspearman rankcorrelation": ["spearman"],
    "r2score rsquared coefficientofdetermination": ["r2"],
    "map apk mapk meanaverageprecision mrr": ["map@3", "average_precision"],
    "ndcg dcg": ["ndcg@3"],
    "topk top topkaccuracyscore": ["top_k_accuracy@3"],
}  # what others call a metric, without case, signs and digits at the end -> ours


def split_by(metric: str) -> tuple[str, str]:
    """The metric and the column of `roc_auc_by:subreddit`; an empty column for names without."""
    base, by, column = metric.partition("_by:")
    return (base, column) if by and ":" not in base else (metric, "")


def split_at(metric: str) -> tuple[str, int]:
    """The metric and the number of `map@3`; 0 for names without."""
    name, _, k = metric.partition("@")
    return name, int(k) if re.fullmatch("[1-9][0-9]{0,5}", k, re.ASCII) else 0


def check_metric_name(metric: str) -> None:
    """Raise ValueError for a name that cannot be a metric; the catalogue is not imported, which takes a second."""
    known, at_k, over = (read_names("scoring/catalogue.py", name) for name in ("METRICS", "AT_K", "OVER"))
    base, column = split_by(metric)
    name, k = split_at(base)
    if base in over and "," not in column:
        raise ValueError(f"metric={metric!r} is over groups that share rows: name their columns, {base}_by:male,female")
    if base not in (*known, *over) and not (k and name in at_k) and (column or ":" not in metric):
        raise ValueError(suggest(metric, known, at_k))


def suggest(metric: str, known: Iterable[str], at_k: Iterable[str]) -> str:
    """What to say of a name that is not known: which one is near, and all there are."""
    near = find_near(metric, known)
    mean = f"did you mean {' or '.join(near)}? Otherwise use" if near else "use"
    every = ", ".join([*known, *(f"{name}@3" for name in at_k)])
    return (
        f"metric={metric!r} is not known: {mean} one of {every}, one of them by the values of a column such as "
        "roc_auc_by:COLUMN, or 'package.module:function'"
    )


def find_near(metric: str, known: Iterable[str]) -> list[str]:
    """Our names for what others call so, or for the same words in another order, or with a slip of the pen."""
    base, column = split_by(metric)
    suffix = f"_by:{column or 'COLUMN'}" if base != metric else ""
    words, k = _words(base), re.search(r"\d+$", base)
    names = {"".join(_words(name)): [name] for name in known}
    for others, ours in OTHERS.items():
        names |= dict.fromkeys(others.split(), ours) | {"".join(_words(name)): [name] for name in ours}
    plain = "".join(words)
    tries = [plain, plain.rstrip("0123456789"), *("".join(words[i:] + words[:i]) for i in range(1, len(words)))]
    sorted_names = {"".join(sorted(_words(name))): [name] for name in known}
    found = next((names[each] for each in tries if each in names), sorted_names.get("".join(sorted(words))))
    if not found:
        close = difflib.get_close_matches(plain, names, n=1, cutoff=0.75)
        found = names[close[0]] if close else []
    at = f"@{k[0]}" if k and int(k[0]) else "@3"
    return [name.replace("@3", at) + (suffix if ":" not in name else "") for name in found]


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+[0-9]?|[0-9]+", name.lower())
