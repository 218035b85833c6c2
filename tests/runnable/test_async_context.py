"""The async context, as the plan that the product grew out of asks for it."""

import inspect

import runnable
from runnable.context import AsyncPipelineContext


def test_async_pipeline_context_exists():
    """Test AsyncPipelineContext class exists."""
    assert AsyncPipelineContext is not None
    assert hasattr(AsyncPipelineContext, "execute")


def test_its_execute_is_a_coroutine_function():
    assert inspect.iscoroutinefunction(AsyncPipelineContext.execute)
    assert runnable.AsyncPipelineContext is AsyncPipelineContext
