"""What is not about video: errors, the reporter, interruptions, compiled programs, memory."""
