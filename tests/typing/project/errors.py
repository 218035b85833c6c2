"""What type checkers say of the errors that a user's project catches."""

from typing import assert_type

from runnable import (
    ExecutionFailedError,
    GraphChangedError,
    JournalCorruptError,
    LeaseLostError,
    MissingParameterError,
    Pipeline,
    RunCancelledError,
    RunExistsError,
    RunFinishedError,
    RunHeldError,
    RunInterruptedError,
    RunnableError,
    RunNotFoundError,
    StoreError,
    exceptions,
)


def a_failure_says_where(pipeline: Pipeline) -> None:
    try:
        pipeline.execute()
    except ExecutionFailedError as error:
        assert_type(error.run_id, str)
        assert_type(error.path, str)
        assert_type(error.reason, str)
        assert_type(error.__cause__, BaseException | None)
        error.step  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    except RunCancelledError as error:
        assert_type(error.run_id, str)
        assert_type(error.reason, str)
    except RunnableError as error:
        error.run_id  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def each_tells_its_facts(pipeline: Pipeline) -> None:
    try:
        pipeline.execute()
    except MissingParameterError as error:
        assert_type(error.step, str)
        assert_type(error.name, str)
    except RunHeldError as error:
        assert_type(error.owner, str)
    except RunNotFoundError as error:
        assert_type(error.store, str)
    except GraphChangedError as error:
        assert_type(error.changes, tuple[str, ...])
    except (RunExistsError, RunFinishedError, RunInterruptedError) as error:
        assert_type(error.run_id, str)
    except LeaseLostError as error:
        assert_type(error.epoch, int)
    except JournalCorruptError as error:
        assert_type(error.seq, int)
    except StoreError as error:
        assert_type(error.temporary, bool)
        assert_type(error.full, bool)
    except exceptions.CheckError as error:
        for finding in error.findings:
            assert_type(finding.step, str)
            assert_type(finding.message, str)
    except exceptions.StepTimeoutError as error:
        assert_type(error.seconds, float)


def those_about_input_are_value_errors(
    missing: MissingParameterError, changed: GraphChangedError, failed: ExecutionFailedError
) -> None:
    errors: list[ValueError] = [missing, changed]
    timeouts: list[TimeoutError] = [exceptions.StepTimeoutError("step", 2)]
    print(errors, timeouts)
    errors.append(failed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    exceptions.NoSuchError  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
