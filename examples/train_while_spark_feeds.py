"""Data-parallel training while Spark feeds the stream: a rank is killed, another number of ranks goes on.

Two ranks train a linear model on batches that Spark's micro-batches bring. In the middle one is killed (kill -9). Three
ranks go on from the last checkpoint, as torchrun would start them on other machines: the checkpoint has the
model, and the state of the stream. In the end each row has been trained on once, and the model is what a loop without
bowstring and without ranks makes of the same rows.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import torch.distributed as dist

import bowstring

FILES, ROWS = 12, 800
#: Rows of a step of all ranks together, of a round, and steps from one checkpoint to the next.
STEP, ROUND, EVERY = 48, 2400, 20
WEIGHTS = torch.tensor([[2.0], [-1.0], [0.5], [3.0]], dtype=torch.float64)


def rows_of(first: int) -> pa.Table:
    """A file of the data: features that a hash of the row's number makes, and what the model has to find."""
    ids = np.arange(first, first + ROWS)
    features = np.sin(np.outer(ids + 1, [1.0, 2.3, 3.7, 5.1]))
    columns = {f"x{number}": features[:, number] for number in range(4)}
    return pa.table({"id": ids, **columns, "y": features @ WEIGHTS.numpy().ravel()})


def features_of(values: dict) -> dict:
    """The transform, which runs in the loader's worker."""
    x = torch.stack([values[f"x{number}"] for number in range(4)], dim=1)
    return {"id": values["id"], "x": x, "y": values["y"].unsqueeze(1)}


def new_model() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Linear(4, 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    return model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)


def train(url: str, directory: str, meeting: str) -> None:
    """One rank; which of how many the environment says, as torchrun does."""
    from bowstring.torch import StreamDataset

    torch.set_num_threads(1)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    checkpoint = Path(directory, "checkpoint.pt")
    dataset = StreamDataset(
        url, "samples", batch_rows=STEP // world_size, round_rows=ROUND, transform=features_of, timeout=600
    )
    model, optimizer = new_model()
    seen: list[int] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        dataset.load_state_dict(saved["stream"])
        seen = saved["seen"]
    trained = torch.nn.parallel.DistributedDataParallel(model)
    with dataset.loader(num_workers=1) as loader:
        steps, before = len(seen) // STEP, -1
        while before < steps:
            before = steps
            for batch in loader:  # one round
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(trained(batch["x"]), batch["y"]).backward()
                optimizer.step()
                ids = [torch.empty_like(batch["id"]) for _ in range(world_size)]
                dist.all_gather(ids, batch["id"])
                seen += torch.cat(ids).tolist()
                steps += 1
                if rank == 0 and (steps % EVERY == 0 or batch.is_last):
                    state = {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "stream": dataset.state_dict(),
                        "seen": seen,
                    }
                    torch.save(state, f"{checkpoint}.new")
                    Path(f"{checkpoint}.new").replace(checkpoint)
                    dataset.ack(batch.state)  # from here on the stream need not keep what came before
    dist.destroy_process_group()


def start_ranks(world_size: int, *arguments: str) -> "list[subprocess.Popen[bytes]]":
    ranks = []
    for rank in range(world_size):
        code = (sys.executable, __file__, "rank", *arguments, f"file://{arguments[1]}/ranks-{world_size}")
        # What torch keeps there of a rank that is killed goes with the directory.
        own = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "TMPDIR": arguments[1]}
        environment = {**os.environ, **own}
        ranks.append(subprocess.Popen(code, env=environment, start_new_session=True))
    return ranks


def end(ranks: "list[subprocess.Popen[bytes]]", number: signal.Signals) -> None:
    for rank in ranks:
        if rank.poll() is None:
            os.killpg(rank.pid, number)
        rank.wait()


def main(directory: str) -> None:
    from pyspark.sql import SparkSession

    from bowstring.streaming import from_spark_streaming

    Path(f"{directory}/samples").mkdir()
    for number in range(FILES):
        pyarrow.parquet.write_table(rows_of(number * ROWS), f"{directory}/samples/{number:02}.parquet")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with bowstring.StreamCoordinator() as coordinator:
        client = coordinator.client()
        client.create_stream("samples", partitions=2)
        client.subscribe("samples", "training")
        ranks = start_ranks(2, coordinator.url, directory)
        try:
            spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
            spark.sparkContext.setLogLevel("ERROR")
            columns = ", ".join(["id long", *(f"x{number} double" for number in range(4)), "y double"])
            samples = spark.readStream.schema(columns).option("maxFilesPerTrigger", 1).parquet(f"{directory}/samples")
            _, query = from_spark_streaming(
                samples, "samples", trigger={"processingTime": "1 second"}, coordinator=coordinator.url,
                subscription="training", checkpoint_location=f"{directory}/spark", keep_stream=True,
            )  # fmt: skip
            checkpoint = Path(directory, "checkpoint.pt")
            while not checkpoint.exists():
                assert query.exception() is None
                assert all(rank.poll() is None for rank in ranks), "a rank has failed"
                time.sleep(0.05)
            os.killpg(ranks[1].pid, signal.SIGKILL)
            ranks[1].wait()
            print(f"killed rank 1 of 2 after {len(torch.load(checkpoint)['seen'])} rows or more; 3 ranks go on")
            end(ranks, signal.SIGKILL)
            ranks = start_ranks(3, coordinator.url, directory)
            while client.describe_stream("samples")["epochs_committed"] < FILES:
                assert query.exception() is None
                time.sleep(0.05)
            query.stop()
            client.complete_stream("samples")
            assert [rank.wait() for rank in ranks] == [0, 0, 0]
        finally:
            end(ranks, signal.SIGKILL)
        spark.stop()

    found = torch.load(checkpoint)
    model, optimizer = new_model()
    samples = pa.concat_tables([rows_of(number * ROWS) for number in range(FILES)])
    x = torch.tensor(np.stack([samples[f"x{number}"] for number in range(4)], axis=1))
    y = torch.tensor(samples["y"].to_numpy()).unsqueeze(1)
    for rows in torch.tensor(found["seen"]).split(STEP):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    once = sorted(found["seen"]) == list(range(FILES * ROWS))
    same = torch.allclose(model.weight, found["model"]["weight"], atol=1e-9)
    print(f"weights: {[round(weight, 3) for weight in found['model']['weight'].ravel().tolist()]}")
    print(f"{len(found['seen'])} rows, each once: {once}; the model is that of a loop without bowstring: {same}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(*sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
            main(temporary)
