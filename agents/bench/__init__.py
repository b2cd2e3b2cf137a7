"""Benchmarks: what ``jaxtrade bench`` measures, each group in a process of its own."""
