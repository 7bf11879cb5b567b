"""Rollout: records, packing, the group store, the channel to the learner, the ledger."""
