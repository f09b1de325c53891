"""nerfbaselines: this method as one of those that nerfbaselines trains and evaluates by its protocols.

What turns its data, settings and calls into ours, and our checkpoints and pictures into what it asks for, belongs here;
training and rendering are those of ``ns-train``. nerfbaselines finds ``spec`` by an entry point, and nothing else imports this
room, as the package needs nerfbaselines nowhere else. Within it ``import nerfbaselines`` means the package of that name.
"""
