"""gobber"""
