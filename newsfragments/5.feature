``pycomnet.tokens`` makes, reads and checks bearer tokens: files of mode 0600, files with several of them and their limits, and a checker for ``twisted.cred``.
