"""Coroutines run at once, and finish as tasks if they have to wait."""

import asyncio

import pytest

from outgate.gate.kernel import eager


def run(coroutine_function):
    """Run a coroutine function on a loop of its own, with a set for tasks."""

    async def main():
        tasks: set = set()
        return await coroutine_function(asyncio.get_running_loop(), tasks)

    return asyncio.run(main())


def test_what_does_not_wait_is_done_at_once():
    """A coroutine that never waits has ended when run() returns, without a task."""

    async def body(loop, tasks):
        seen = []

        async def work():
            seen.append(1)

        assert eager.run(work(), loop, tasks) is None
        assert seen == [1]
        assert not tasks

    run(body)


def test_what_waits_goes_on_as_a_task():
    """The first part runs at once, the rest when what it waits for is there, with its value; the task is kept."""

    async def body(loop, tasks):
        seen = []
        future = loop.create_future()

        async def work():
            seen.append("began")
            seen.append(await future)
            await asyncio.sleep(0)
            return "ended"

        task = eager.run(work(), loop, tasks)
        assert seen == ["began"]
        assert tasks == {task}
        future.set_result(7)
        assert await task == "ended"
        assert seen == ["began", 7]
        await asyncio.sleep(0)
        assert not tasks

    run(body)


def test_two_wait_for_one_thing():
    """Coroutines that begin to wait for the same future in one turn of the loop all get its value."""

    async def body(loop, tasks):
        future = loop.create_future()

        async def work():
            return await future

        waiting = [eager.run(work(), loop, tasks) for _ in range(3)]
        loop.call_soon(future.set_result, 7)
        assert await asyncio.gather(*waiting) == [7, 7, 7]

    run(body)


def test_errors_come_through():
    """An exception of what is waited for is raised inside the coroutine, and its own ends the task."""

    async def body(loop, tasks):
        future = loop.create_future()

        async def work():
            try:
                await future
            except ConnectionError:
                raise ValueError("seen") from None

        task = eager.run(work(), loop, tasks)
        future.set_exception(ConnectionError())
        with pytest.raises(ValueError, match="seen"):
            await task

    run(body)


def test_the_rest_can_be_cancelled():
    """Cancelling the task cancels what the coroutine waits for."""

    async def body(loop, tasks):
        future = loop.create_future()

        async def work():
            await future

        task = eager.run(work(), loop, tasks)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        assert future.cancelled()

    run(body)
