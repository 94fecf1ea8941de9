"""The command explore."""

from __future__ import annotations

import click

from .app import ModelChoice, command, model_options


@command(
    "explore",
    examples=[
        "minilm explore",
        'minilm explore "The dog bites the man" "The man bites the dog"',
        "minilm explore --model ./my-model --port 8080 --no-browser",
        'minilm explore --model google-bert/bert-base-uncased "The capital of France is [MASK]."',
    ],
)
@click.argument("texts", nargs=-1, metavar="[TEXT [SECOND]]")
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=0, help="Default: one that is free.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
@model_options()
def explore(texts: tuple[str, ...], port: int, browser: bool, choice: ModelChoice) -> None:
    """Watch the network compute, in a browser.

    Opens a page that shows how a text becomes a vector: every stage with its numbers, its formula and its code; what
    each head of attention looks at; two texts compared token by token; what happens when a part is changed or left out.
    With a masked-LM it shows words for [MASK], with a classifier labels. Nothing leaves this machine. Ctrl-C ends it.
    """
    if len(texts) > 2:
        raise click.UsageError("At most two texts are shown at a time: put each in quotes.")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(f"minilm explore needs more packages ({error.name}): pip install 'minilm[serve]'") from error
    import threading
    import webbrowser
    from urllib.parse import urlencode

    from ..explorer.explorer import Question, load
    from ..explorer.routes import create_app
    from ..serving import server

    with server.listen("127.0.0.1", port) as listening:
        explorer = load(choice.name, **choice.where, **choice.computing, threads=choice.threads)
        explorer.run(Question("warm up"))
        shown = urlencode(dict(zip(("text", "second"), (*texts, ""), strict=False)) if texts else {})
        address = f"{server.address(listening)}/explorer/{shown and '#'}{shown}"

        def ready() -> None:
            click.echo(f"{explorer.name} is at {address} (Ctrl-C ends it)", err=True)
            if browser:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        interrupted = server.run(create_app({explorer.name: explorer}), listening, shutdown_timeout=1, on_ready=ready)
    if interrupted:
        raise KeyboardInterrupt
