Gateways everywhere: ``ssh=host`` with the system's OpenSSH and a bare interpreter there, gateways
started through others to any depth (``//via=ID``), and ``ChannelGateway``, which operates on a
channel that code in a worker made. A supervisor at each place forks further gateways over the
connection that is there. ``Group.makegateways`` starts many, and ``--on 'ssh=host{1..50}'`` expands.
