"""The port's asyncio side: what every engine child shares that is not llama.cpp's.

It knows frames, ids, slots and deadlines, not how an answer comes about.
"""
