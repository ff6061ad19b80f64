async def c():
    await asyncio.sleep(0)
    loop = asyncio.get_event_loop()
    return loop

loop = asyncio.get_event_loop()
coro = c()
print(loop is loop.run_until_complete(coro))
