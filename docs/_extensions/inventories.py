"""Links to the pages of other projects, if their inventories can be had.

Intersphinx warns of an inventory that it cannot fetch, with a warning that cannot be
suppressed, and `sphinx-build -W` then fails. So the inventories are fetched here, all at
once and within some seconds, and Intersphinx hears only of those that came.
"""

import pathlib
import threading
import time
import urllib.request

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

SECONDS = 4.0

_LOGGER = logging.getLogger(__name__)


def fetched(sites: dict[str, str], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Fetches `objects.inv` of each site; those that do not come in time are left out."""
    contents: dict[str, bytes] = {}

    def fetch(name: str, site: str) -> None:
        try:
            with urllib.request.urlopen(f"{site}objects.inv", timeout=SECONDS) as reply:
                content = reply.read()
        except (OSError, ValueError):
            return
        # Not the page of some proxy.
        if content.startswith(b"# Sphinx inventory version"):
            contents[name] = content

    # As daemons, since a look-up of a name knows no time limit.
    threads = [
        threading.Thread(target=fetch, args=site, daemon=True) for site in sites.items()
    ]
    end = time.monotonic() + SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    paths = {}
    for name in sites:
        if name in contents:
            paths[name] = folder / f"{name}.inv"
            folder.mkdir(parents=True, exist_ok=True)
            paths[name].write_bytes(contents[name])
    return paths


def _add(app: Sphinx, config: Config) -> None:
    sites = config.linked_sites
    paths = fetched(sites, pathlib.Path(app.doctreedir) / "inventories")
    config.intersphinx_mapping = {
        name: (sites[name], str(path)) for name, path in paths.items()
    }
    for name in sites.keys() - paths.keys():
        _LOGGER.info("no links to %s: its inventory did not come", name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.intersphinx")
    app.add_config_value("linked_sites", {}, "env", types=(dict,))
    # Intersphinx reads its mapping at priority 800.
    app.connect("config-inited", _add, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
