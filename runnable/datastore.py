"""The names of parameters, records, run logs and stores under one import path."""

from runnable.parameters import JsonParameter, MetricParameter, ObjectParameter, Parameter
from runnable.records import Record
from runnable.runlog import RunLog, StepAttempt, StepLog
from runnable.steplog import DataCatalog
from runnable.store import BaseRunLogStore

__all__ = [
    "BaseRunLogStore",
    "DataCatalog",
    "JsonParameter",
    "MetricParameter",
    "ObjectParameter",
    "Parameter",
    "Record",
    "RunLog",
    "StepAttempt",
    "StepLog",
]
