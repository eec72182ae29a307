"""What SE costs and whether it helps: the measurements that the README's tables are made from."""
