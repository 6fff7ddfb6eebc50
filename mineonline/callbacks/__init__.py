"""The callbacks of every run. `iteration` has their base class; your own are plain Lightning callbacks."""
