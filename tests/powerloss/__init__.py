"""The power goes: what LMDB wrote and had not synced is there, or not, in any mixture; and the store on that."""
