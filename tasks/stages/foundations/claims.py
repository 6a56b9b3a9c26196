"""Which published claims a run of `foundations` checks: that one model is better than another."""

from dataclasses import dataclass

SHOTS = "in_context/accuracy"
"""Of prompts; the numbers of examples are compared within one stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One model is better than another.

    Attributes:
        better, worse: Roles of the two models, or a metric of the same model as `role:metric`.
        metric: Of both, unless one names its own.
        lower: Whether the smaller number is the better one.
        margin: By how much the first may be worse.
    """

    part: str
    text: str
    source: str
    better: str
    worse: str
    metric: str
    lower: bool = False
    margin: float = 0.0


def _language() -> list[Claim]:
    order = (
        ("feedforward", "ngram", "A feed-forward network beats n-grams", "Bengio et al. 2003"),
        ("rnn", "feedforward", "A recurrent network beats a window", "Mikolov et al. 2010"),
        ("lstm", "rnn", "Gates beat a plain recurrence", "Sundermeyer et al. 2012"),
        ("gpt2", "lstm", "Attention beats recurrence (GPT-2)", "Radford et al. 2018, section 5"),
        ("llama", "lstm", "Attention beats recurrence (Llama)", "Al-Rfou et al. 2019"),
        ("llama", "gpt2", "Llama's block beats GPT-2's", "Touvron et al. 2023, section 2.2"),
        ("mixtral", "llama", "Experts beat one dense layer", "Shazeer et al. 2017"),
    )
    claims = [
        Claim(
            part="language", text=text, source=source, better=better,
            worse=worse if worse != "ngram" else "ngram:ngram/bits_per_byte",
            metric="pretrain/bits_per_byte", lower=True,
        )
        for better, worse, text, source in order
    ]  # fmt: skip
    baselines = (
        ("bert", "Masked words are learned", "Devlin et al. 2019", "masked_accuracy",
         "masked_accuracy_unigram"),
        ("bert", "The next sentence is learned", "Devlin et al. 2019", "next_sentence_accuracy",
         "next_sentence_majority"),
        ("bart", "Noised text is restored", "Lewis et al. 2020", "restored_accuracy",
         "restored_accuracy_unigram"),
    )  # fmt: skip
    return claims + [
        Claim(
            part="language", text=text, source=source, better=model,
            worse=f"{model}:pretrain/{baseline}", metric=f"pretrain/{metric}",
        )
        for model, text, source, metric, baseline in baselines
    ]  # fmt: skip


TRUNKS = {
    "gpt2": ("GPT", "Radford et al. 2018, table 5"),
    "bert": ("BERT", "Devlin et al. 2019, section 5"),
    "bart": ("BART", "Lewis et al. 2020, section 5"),
}
CLASSES = ("entailment", "polarity", "choice")
TASKS = (*CLASSES, "similarity")


def _understanding() -> list[Claim]:
    claims = [
        Claim(
            part="understanding", text=f"Pretraining helps {name}: {task}", source=source,
            better=f"{model}-{task}", worse=f"{model}-{task}-random",
            metric=f"understand/{'correlation' if task == 'similarity' else 'accuracy'}",
        )
        for task in TASKS
        for model, (name, source) in TRUNKS.items()
    ]  # fmt: skip
    claims += [
        Claim(
            part="understanding", text=f"GPT's auxiliary loss helps: {task}",
            source="Radford et al. 2018, section 5", better=f"gpt2-{task}-auxiliary",
            worse=f"gpt2-{task}", metric="understand/accuracy",
        )
        for task in CLASSES
    ]  # fmt: skip
    return [
        *claims,
        Claim(
            part="understanding", text="Both directions beat one: BERT against GPT, entailment",
            source="Devlin et al. 2019, table 1", better="bert-entailment",
            worse="gpt2-entailment", metric="understand/accuracy",
        ),
        Claim(
            part="understanding", text="BERT beats the most frequent answer: entailment",
            source="Devlin et al. 2019, table 1", better="bert-entailment",
            worse="bert-entailment:understand/majority", metric="understand/accuracy",
        ),
        Claim(
            part="understanding", text="BERT is within 2 points of a bag of words: polarity",
            source="Pang and Lee 2005", better="bert-polarity",
            worse="bert-polarity:understand/baseline", metric="understand/accuracy", margin=0.02,
        ),
    ]  # fmt: skip


def _translation() -> list[Claim]:
    return [
        Claim(
            part="translation", text="Attention cures long sentences (more than 15 words)",
            source="Bahdanau et al. 2015, figure 2", better="rnnsearch",
            worse="rnn_encoder_decoder", metric="translate/bleu_long",
        ),
        Claim(
            part="translation", text="A Transformer beats RNNsearch",
            source="Vaswani et al. 2017, table 2", better="transformer", worse="rnnsearch",
            metric="translate/bleu",
        ),
        Claim(
            part="translation", text="Denoising on one side helps BART to translate",
            source="Lewis et al. 2020, table 6", better="bart-translation",
            worse="bart-translation-random", metric="translate/bleu",
        ),
    ]  # fmt: skip


def _others() -> list[Claim]:
    infilling = [
        Claim(
            part="noise", text=f"Infilling beats {other} alone",
            source="Lewis et al. 2020, table 1",
            better="bart-infilling-entailment", worse=f"bart-{other}-entailment",
            metric="understand/accuracy",
        )
        for other in ("masking", "deletion", "permutation", "rotation")
    ]  # fmt: skip
    prompts = [
        Claim(
            part="in_context", text=f"Examples in the prompt help: {task}",
            source="Brown et al. 2020, figure 1.2",
            better=f"in-context-{task}:in_context/accuracy_few",
            worse=f"in-context-{task}:in_context/accuracy_zero", metric=SHOTS,
        )
        for task in ("entailment", "polarity", "choice")
    ]  # fmt: skip
    return [
        *infilling,
        *prompts,
        Claim(
            part="selection", text="Fewer near-duplicates, better language model at equal steps",
            source="Lee et al. 2022, section 6", better="gpt2-selected", worse="gpt2",
            metric="pretrain/bits_per_byte", lower=True,
        ),
        Claim(
            part="selection",
            text="More of what is measured, better at equal steps: a mixture by weights",
            source="Gururangan et al. 2020, section 3",
            better="gpt2",
            worse="gpt2-unmixed",
            metric="pretrain/bits_per_byte",
            lower=True,
        ),
    ]  # fmt: skip


def claims() -> list[Claim]:
    """Every claim, in the order of the report."""
    return [*_language(), *_understanding(), *_translation(), *_others()]
