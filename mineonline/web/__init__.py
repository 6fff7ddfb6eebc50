"""The page in the browser: a person plays the embedded world, and looks at a run.

    browser                     server process (`mineonline.play`)          world process (`world.py`)
    page/index.html             server.py: one asyncio loop                 one thread, 20 ticks/s
    page/play.js  ◀─websocket─▶ player.py: one person at a time  ◀─pipes─▶  game.py: world, person, agent
                                world_link.py                                  controls.py: keys and mouse as actions
    page/run.js   ◀───HTTP───── run_view.py: files of a run folder             agent.py: a checkpoint's policy
                                                                               recorder.py: fragments, on disk

Keys and mouse go right, pictures (JPEG) go left; `messages.py` says how. Of pictures only the newest counts: what a
slow connection cannot take is skipped. torch, numba and everything slow are in the world process alone, so the loop
always answers. The world pauses when its browser is gone, and ends when the server does.
"""
