"""Models that look at one image: classifiers that are also encoders. Read classifier.py first."""
