"""Pages at lower levels: less said, in the page's own words, without a model.

    full       1 reduced                    2 abstract         3 reference
    text       a telegram, code outlined    its best lines     topics
    code       signatures, imports, terms   signatures         names
    a log      one line of each kind        its failures       topics
    JSON       shortened lists, texts       fewer still        keys
    image      caption                      its key sentence   image:<id>
    audio      transcript, as a telegram    its best lines     topics
    video      scenes and transcript        scenes             topics

A medium that could be decoded has level 1 always, with what its bytes tell in it, and a preview beside it.

Compressors are deterministic and leave the full representation alone. One that would not save tokens answers None.
"""
