"""`python -m training defect_detect|chat [--steps N] [--out models]`: train, export, quantise, judge."""

import argparse
from itertools import islice
from pathlib import Path

import torch

from training import card, examples, gguf_file, llama, tokens
from training.batches import batches
from training.evaluate import HELD_OUT_SEED, evaluate
from training.fit import Recipe, fit
from training.model import Network, Shape
from training.template import CHAT_TEMPLATE

_STEPS: dict[examples.ModelName, int] = {"defect_detect": 2100, "chat": 1800}
_TOKENISER = Path(__file__).parent / "data" / "tokeniser.json"
_CORPUS_ROWS = 20_000


def main() -> None:
    """Parse the command line and make one model."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("model", choices=tuple(_STEPS))
    parser.add_argument("--steps", type=int, help="default: 2100 for defect_detect, 1800 for chat")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument(
        "--tokeniser", type=Path, default=_TOKENISER, help="learned where the file is missing"
    )
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="checkpoints and F16 files")
    parser.add_argument("--evaluate", type=int, default=1000, help="held-out examples")
    parser.add_argument(
        "--export-only", action="store_true", help="export the checkpoint as it is, training nothing"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    make(
        options.model,
        Recipe(steps=options.steps or _STEPS[options.model], seed=options.seed),
        options.out,
        options.work,
        tokeniser_at(options.tokeniser, options.seed),
        options.evaluate,
        export_only=options.export_only,
    )


def make(
    model: examples.ModelName,
    recipe: Recipe,
    out: Path,
    work: Path,
    tokeniser: tokens.Tokeniser,
    held_out: int,
    *,
    export_only: bool,
) -> None:
    """Train (or take the checkpoint), export, quantise, evaluate, write the card."""
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    network = Network(Shape(vocab=len(tokeniser.vocab)), recipe.seed)
    checkpoint = work / f"{model}.pt"
    source = batches(model, tokeniser, recipe.seed, recipe.batch)
    steps, loss = fit(network, source, recipe, checkpoint, print, train=not export_only)
    f16, q4 = work / f"{model}.F16.gguf", out / f"{model}.Q4_K_M.gguf"
    gguf_file.write(f16, model, network, tokeniser)
    llama.quantise(f16, q4)
    difference = torch_against(network, f16, model, tokeniser)
    print(f"{q4}: {q4.stat().st_size} bytes; torch against F16 in llama.cpp: {difference:.4f}")
    outcomes = {
        kind: evaluate(path, model, tokeniser, held_out) for kind, path in (("F16", f16), ("Q4_K_M", q4))
    }
    for kind, outcome in outcomes.items():
        print(kind, outcome.accuracy)
    for text, expected, answer in outcomes["Q4_K_M"].wrong:
        print(f"wrong: {text}\n  expected {expected}\n  answered {answer}")
    card.Card(
        name=model,
        file=q4.name,
        bytes=q4.stat().st_size,
        sha256=card.digest(q4),
        architecture="llama",
        weights=sum(weight.numel() for weight in network.parameters()),
        shape=card.shape_dict(network.shape),
        quantisation="Q4_K_M",
        tokenizer={"model": "gpt2", "pre": tokens.PRE_TYPE, "tokens": len(tokeniser.vocab)},
        chat_template=CHAT_TEMPLATE,
        data_seed=recipe.seed,
        steps=steps,
        batch=recipe.batch,
        final_loss=round(loss, 5),
        held_out_seed=HELD_OUT_SEED,
        held_out_examples=outcomes["Q4_K_M"].examples,
        held_out_accuracy={kind: outcome.accuracy for kind, outcome in outcomes.items()},
        torch_against_f16=round(difference, 4),
        machine=card.machine(),
        command=f"python -m training {model} --steps {recipe.steps} --seed {recipe.seed}",
    ).write(out / f"{model}.json")


def tokeniser_at(path: Path, seed: int) -> tokens.Tokeniser:
    """Load the tokeniser that both models share, learning it the first time."""
    if not path.exists():
        tokens.learn(examples.corpus(seed, _CORPUS_ROWS)).save(path)
    return tokens.Tokeniser.load(path)


def torch_against(
    network: Network, f16: Path, model: examples.ModelName, tokeniser: tokens.Tokeniser
) -> float:
    """Return the largest difference of any logit between torch and the F16 file, over a few prompts."""
    worst = 0.0
    with llama.Runner(f16) as runner, torch.no_grad():
        for example in islice(examples.examples(model, "test", HELD_OUT_SEED), 8):
            ids = tokeniser.example(example).ids
            ours = network.logits(network.hidden(torch.tensor([ids]))[0, -1])
            worst = max(worst, float((ours - torch.from_numpy(runner.logits(ids))).abs().max()))
    return worst


if __name__ == "__main__":
    main()
