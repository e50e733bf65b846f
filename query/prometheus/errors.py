"""What goes wrong with a query, as Prometheus sorts it."""


class PrometheusError(Exception):
    """A refusal: ``error_type`` and the status it goes with; the text is for a person."""

    error_type = "execution"
    status = 422


class BadDataError(PrometheusError):
    """What is asked is not valid, or not supported."""

    error_type = "bad_data"
    status = 400


class ExecutionError(PrometheusError):
    """What is asked is valid, but not of these series, or too much."""


class TimedOutError(PrometheusError):
    """The query takes longer than it may."""

    error_type = "timeout"
    status = 503
