"""The command serve."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .app import DEFAULT_MODEL, command
from .indexing import index_in


def _address_or_nothing() -> str:
    """Return what HOSTNAME says if it is an address: containers set it to their own name, which is nobody's wish."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(os.environ.get("HOSTNAME", "")))
    except ValueError:
        return "127.0.0.1"


def _number(name: str, default: float, help_text: str, least: float = 1) -> Callable[[Any], Any]:
    """Return an option for a number of at least ``least``, which an environment variable of that name sets as well."""
    kind = click.FloatRange(min=least) if isinstance(default, float) else click.IntRange(min=int(least))
    variable = name.lstrip("-").replace("-", "_").upper()
    option: Callable[[Any], Any] = click.option(
        name, type=kind, default=default, show_default=True, envvar=variable, show_envvar=True, help=help_text
    )
    return option


@command(
    "serve",
    examples=[
        "minilm serve",
        "minilm serve --model BAAI/bge-small-en-v1.5 --model cross-encoder/ms-marco-MiniLM-L6-v2 --port 8080",
        "minilm serve --index ~/notes",
        'minilm serve --hostname 0.0.0.0 --api-key "$KEY" --backend int8',
    ],
)
@click.option("--model", "--model-id", "models", multiple=True, metavar="NAME", envvar="MODEL_ID", show_envvar=True,
              show_default=f"the index's, or {DEFAULT_MODEL}",
              help="A folder, or a name on the Hugging Face Hub; again for a further model.")  # fmt: skip
@click.option("--served-model-name", "names", multiple=True, metavar="NAME", envvar="SERVED_MODEL_NAME",
              show_envvar=True, help="The name by which clients ask for it; again for further models. "
              "Default: as --model has it.")  # fmt: skip
@click.option(
    "--revision", metavar="REV", envvar="REVISION", show_envvar=True, help="Branch, tag or commit on the Hub."
)
@click.option("--index", "file", type=click.Path(path_type=Path), metavar="FILE", callback=index_in,
              help="Answer /search from this index, or the one in this folder; its model is served, unless --model "
              "names others.")  # fmt: skip
@click.option("--offline", is_flag=True, help="Use local files only, no network.")
@click.option("--backend", metavar="NAME", help="numba, int8, numpy, cupy or cupy-tf32; see 'minilm info'.")
@click.option("--device", metavar="DEVICE", help="For a backend with several devices, such as cuda:1.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Default: one for each core.")
@click.option("--hostname", default=_address_or_nothing, metavar="ADDRESS",
              show_default="127.0.0.1, or HOSTNAME if that is an address",
              help="Where to listen; 0.0.0.0 for all interfaces.")  # fmt: skip
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=3000, show_default=True, envvar="PORT",
              show_envvar=True, help="0 takes one that is free.")  # fmt: skip
@click.option("--uds-path", metavar="PATH", envvar="UDS_PATH", show_envvar=True,
              help="Listen on a Unix domain socket instead.")  # fmt: skip
@click.option("--api-key", metavar="KEY", envvar="API_KEY", show_envvar=True,
              help="What clients must send in the header Authorization, with or without 'Bearer'.")  # fmt: skip
@click.option("--cors-allow-origin", "origins", multiple=True, default=["*"], show_default=True, metavar="ORIGIN",
              envvar="CORS_ALLOW_ORIGIN", show_envvar=True,
              help="Web pages from there may call the service; again for more.")  # fmt: skip
@click.option("--auto-truncate", type=bool, is_flag=False, flag_value=True, default=True, show_default=True,
              envvar="AUTO_TRUNCATE", show_envvar=True,
              help="Cut texts that are too long, unless a request says otherwise.")  # fmt: skip
@click.option("--reject-empty", is_flag=True, help="Refuse empty texts, as text-embeddings-inference does.")
@click.option("--default-prompt-name", metavar="NAME", envvar="DEFAULT_PROMPT_NAME", show_envvar=True,
              help="Put this prompt of the model before every text, unless a request names another.")  # fmt: skip
@_number("--max-concurrent-requests", 512, "Refuse more requests at a time, with 429.")
@_number("--max-queue-tokens", 131_072, "Refuse requests, with 429, while so many tokens wait.")
@_number("--max-batch-tokens", 256, "Compute so many tokens together.")
@_number("--max-client-batch-size", 2048, "Refuse more texts in one request.")
@_number("--payload-limit", 16_000_000, "Refuse larger bodies, in bytes.")
@_number("--shutdown-timeout", 30.0, "After SIGTERM, wait so many seconds for requests in work.", least=0)
@click.option("--explorer/--no-explorer", default=True, show_default=True,
              help="Show at /explorer how the models compute.")  # fmt: skip
@click.option("--json-output", is_flag=True, envvar="JSON_OUTPUT", show_envvar=True, help="Write the log as JSON.")
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="Write a line for each request.")
def serve(models: tuple[str, ...], names: tuple[str, ...], revision: str | None, file: Path | None,
          **options: Any) -> None:  # fmt: skip
    """Serve embeddings, reranking and classification over HTTP.

    Routes, bodies and answers are text-embeddings-inference's, and also OpenAI's (/v1/embeddings, /v1/models), Cohere's
    and Jina's (/v1/rerank, /v2/rerank) and Ollama's (/api/embed). GET /docs shows them all, and /explorer
    shows how the models compute. Several models may be served: clients choose by "model", or by the route. SIGTERM lets
    requests in work finish. The log goes to standard error.
    """
    begun = time.perf_counter()
    models = models or (_model_of(file),)
    if len(names) > len(models):
        raise click.UsageError("--served-model-name is given more often than --model.")
    if revision is not None and len(models) > 1:
        raise click.UsageError("--revision is for a single --model.")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the cores are busy with computing
    run(Served(models, names, revision, file), begun, **options)


def _model_of(file: Path | None) -> str:
    """Return the name of the model that an index was made with, or the default one."""
    if file is None:
        return DEFAULT_MODEL
    from ..indexing.index import Index

    with Index(file, create=False) as index:
        return index.model_name or DEFAULT_MODEL


@dataclass(frozen=True)
class Served:
    """What `serve` serves: models as they are called on the Hub, by clients, and at which revision; and an index."""

    models: tuple[str, ...]
    names: tuple[str, ...]
    revision: str | None
    file: Path | None

    def load(self, **settings: Any) -> list[Any]:
        """Load them, and compute a text with each, so that the first request finds everything ready."""
        from ..serving.models import load_model

        names = [*self.names, *[""] * (len(self.models) - len(self.names))]
        loaded = [
            load_model(model, name, revision=self.revision, **settings)
            for model, name in zip(self.models, names, strict=True)
        ]
        for one in loaded:
            one.model.run([("warm", "up")] if one.kind == "reranker" else ["warm up"])
        return loaded

    def open_index(self, models: Sequence[Any]) -> Any:
        """Open the index with the one of the models that it was made with, or refuse; None if there is no index."""
        if self.file is None:
            return None
        from ..indexing.index import Index

        with Index(self.file, create=False) as index:
            name = index.model_name or ""
        embedders = sorted((one for one in models if one.kind == "embedding"), key=lambda one: not one.answers_to(name))
        if not embedders:
            raise click.UsageError(f"--index {self.file} needs its model among those that are served: --model {name}.")
        index = Index(self.file, embedders[0].embedder, create=False)
        _ = index.model  # is compared now, and not at the first request
        return index


def _pages(models: Sequence[Any]) -> dict[str, Any]:
    from ..explorer.explorer import Explorer
    from ..explorer.routes import explorer_routes

    return {"/explorer": explorer_routes({one.name: Explorer(one.model, one.name) for one in models})}


def run(served: Served, begun: float, **options: Any) -> None:
    """Load models and serve them until a signal comes."""
    try:
        import orjson  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(f"minilm serve needs further packages ({error.name}): pip install 'minilm[serve]'") from error
    from ..serving import server
    from ..serving.app import create_app
    from ..serving.log import Log
    from ..serving.settings import Settings

    log = Log(options["json_output"])
    address = options["hostname"], options["port"], options["uds_path"]
    with log.of_loggers("minilm", "uvicorn.error"), server.listen(*address) as listening:
        models = served.load(
            backend=options["backend"], device=options["device"], threads=options["threads"],
            local_files_only=options["offline"],
        )  # fmt: skip
        given = {name: options[name] for name in Settings.__dataclass_fields__ if name in options}
        settings = Settings(**given, cors_allow_origins=tuple(options["origins"]))
        app = create_app(
            models,
            settings,
            access_log=log.request if options["access_log"] else None,
            index=served.open_index(models),
            pages=_pages(models) if options["explorer"] else {},
        )

        def say_ready() -> None:
            what = ", ".join(f"{model.name} ({model.kind})" for model in models)
            seconds = time.perf_counter() - begun
            log.message("INFO", f"ready after {seconds:.1f} s: {what} at {server.address(listening)}")

        interrupted = server.run(app, listening, shutdown_timeout=options["shutdown_timeout"], on_ready=say_ready)
        log.message("INFO", "all requests are answered" if not interrupted else "interrupted")
    if interrupted:
        raise KeyboardInterrupt
