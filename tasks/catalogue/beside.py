"""Rows of the stages beside the chain: models from elsewhere, comparisons, benchmarks."""

from collections.abc import Mapping

from tasks.catalogue.entries import HELD_OUT, TRAIN, Card, Curve, Entry, KeyMetric

TASKS = ("entailment", "similarity", "polarity", "choice")
"""Of the data of foundations; an input's role is the task that is read of it."""


def _task_files(*contexts: str) -> dict[str, Mapping[str, str]]:
    names = {TRAIN: "train", HELD_OUT: "heldout"}
    return {task: {f"{task}_{names[one]}": one for one in contexts} for task in TASKS}


BESIDE: Mapping[str, Entry] = {
    "base": Entry(
        title="Base model from elsewhere",
        key_metrics=(KeyMetric("adopt/parameters", "parameters", ",.0f"),),
        role="base",
    ),
    "policy": Entry(title="Policy from elsewhere", role="policy", also=("sft", "base")),
    "evaluate-models": Entry(title="Models compared", final=True, judges=True),
    "multiple-choice": Entry(title="Multiple choice", final=True, judges=True),
    "lm-eval": Entry(title="Published benchmarks", final=True, judges=True),
    "foundations-data": Entry(
        title="Texts and tasks",
        detailed=True,
        key_metrics=(KeyMetric("foundations_data/corpus_train", "texts", ",.0f"),),
    ),
    "understand": Entry(
        title="Understanding",
        key_metrics=(
            KeyMetric("understand/accuracy", "held-out accuracy"),
            KeyMetric("understand/majority", "most frequent label"),
            KeyMetric("understand/correlation", "held-out correlation"),
        ),
        final=True,
        curves=(Curve("understand/loss", "Understanding: loss", "nats, or squared error"),),
        card=Card(
            text="A model fine-tuned with a head: it gives classes, a score or a choice.",
            task="text-classification",
        ),
        datasets=_task_files(TRAIN, HELD_OUT),
    ),
    "in-context": Entry(
        title="In-context learning",
        key_metrics=(
            KeyMetric("in_context/accuracy_zero", "accuracy without examples"),
            KeyMetric("in_context/accuracy_few", "with a few"),
            KeyMetric("in_context/majority", "most frequent label"),
        ),
        final=True,
        datasets=_task_files(HELD_OUT),
    ),
    "select": Entry(
        title="Selection of texts",
        detailed=True,
        key_metrics=(
            KeyMetric("select/kept", "texts kept", ",.0f"),
            KeyMetric("select/dropped", "dropped", ",.0f"),
        ),
        lineage=("select/kept", "select/dropped"),
        datasets={"corpus": {"corpus_train": TRAIN}},
    ),
    "ngram": Entry(
        title="N-grams",
        key_metrics=(KeyMetric("ngram/bits_per_byte", "bits per byte"),),
        lineage=("ngram/parameters", "ngram/bits_per_byte"),
    ),
    "translate": Entry(
        title="Translation",
        key_metrics=(
            KeyMetric("translate/bleu", "BLEU", ".1f"),
            KeyMetric("translate/bleu_long", "of long sentences", ".1f"),
        ),
        final=True,
        curves=(Curve("translate/loss", "Translation: loss", "nats per token"),),
        loss_unit="nats per token",
        lineage=("translate/parameters", "translate/bleu"),
        card=Card(
            text="A sequence-to-sequence model, trained on pairs of source and target.",
            task="translation",
        ),
        datasets={"pairs": {"translation_train": TRAIN, "translation_heldout": HELD_OUT}},
    ),
    "foundations": Entry(
        title="Families of models",
        key_metrics=(
            KeyMetric("foundations/models", "models", ",.0f"),
            KeyMetric("foundations/claims_held", "claims held", ",.0f"),
        ),
        final=True,
    ),
    "promotion": Entry(title="Challenger against champion", final=True, judges=True),
}
