"""Films an episode: `film` takes the pictures, `overlay` draws on them, `file` writes the mp4, `grid` shows several."""
