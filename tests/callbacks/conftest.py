"""What tests of callbacks share."""

import logging

import jax
import pytest


@pytest.fixture
def compilations():
    """A list to which jax adds the message of each program that it compiles."""
    messages: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("Compiling"):
                messages.append(record.getMessage())

    logger, listen = logging.getLogger("jax"), Listen()
    handlers, logger.handlers = logger.handlers, [listen]
    try:
        with jax.log_compiles():
            yield messages
    finally:
        logger.handlers = handlers
