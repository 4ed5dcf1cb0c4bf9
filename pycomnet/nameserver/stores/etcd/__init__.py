"""A store in an etcd cluster, which several nameservers share."""
