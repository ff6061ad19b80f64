async def c():
    await asyncio.sleep(0)
    return 111

loop = asyncio.get_event_loop()
coro = c()
print(loop.run_until_complete(coro))
### 111
