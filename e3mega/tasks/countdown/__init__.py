"""The Countdown task: in its own small language, and as text for a pretrained model."""
