"""What is not about video: errors, commands, progress, interruptions, compiled programs, memory."""
