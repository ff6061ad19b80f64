asycio.create_task(coro)
