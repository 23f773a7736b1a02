"""`clesr keys`: key pairs for encrypted ZeroMQ."""

from __future__ import annotations

import logging
from pathlib import Path

import rich_click as click

from clesr.tools.common.options import settings_options

log = logging.getLogger(__name__)


@click.command()
@click.argument("name", metavar="NAME", type=click.Path(path_type=Path))
@settings_options()
def keys(name: Path) -> None:
    """Make a key pair, NAME.key and NAME.key_secret, by which ZeroMQ encrypts.

    NAME.key is public: give it to those who connect, or put theirs into the folder of those who may. NAME.key_secret
    stays on its machine. Both can be read by their owner alone; files that exist are never replaced.

    Examples:

    - `clesr keys scanner`
    - `clesr-live --source /dev/video0 --send 'zmq+tcp://*:5556?curve_secret=scanner.key_secret&curve_clients=readers'`
    """
    from clesr.pipeline.curve import make_keys

    public, secret = make_keys(name)
    log.info(f"wrote {public}: the public key")
    log.info(f"wrote {secret}: the secret key, which stays on this machine")
