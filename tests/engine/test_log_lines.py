"""A traceback in the engine's log tells where, and not what was asked."""

from __future__ import annotations

import io
import logging

from workers.engine.log_lines import FramesOnly


def test_the_text_of_an_exception_stays_out() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(FramesOnly("%(levelname)s %(message)s"))
    logger = logging.getLogger("test_log_lines")
    logger.addHandler(handler)
    text = "-".join(["CANARY", "7d41"])
    try:
        int(text)
    except ValueError:
        logger.exception("the job %r cannot go on", "J")
    finally:
        logger.removeHandler(handler)
    assert "ERROR the job 'J' cannot go on" in out.getvalue()
    assert "test_log_lines.py" in out.getvalue() and out.getvalue().rstrip().endswith("ValueError")
    assert text not in out.getvalue()
