async def f():
    return 123

print(type(f)) # <class 'function'>

f = f()
print(type(f)) # <class 'coroutine'>
