"""pastry"""
