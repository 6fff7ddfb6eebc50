"""mineonline trains Minecraft agents online, with PPO, while they play."""
