"""bitlaw: what does a language model lose in fewer bits, and could it have been known before?"""
