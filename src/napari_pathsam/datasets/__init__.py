"""One file per published data set: its layout on disk → samples and its official split."""
