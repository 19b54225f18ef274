"""How well a registration explains its scan: measures, gates over them, a verdict with reasons.

A gate is one function and one line of GATES. Distances alone do not tell a face: a flexible
template can be drawn over anything of a head's size. So gates also look at how far the model had
to be bent, and at whether nose, sockets and lips are still there (`Measures.relief`).
"""
