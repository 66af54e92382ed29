"""Pages at lower levels: less said, in the page's own words, without a model.

    full       1 reduced                2 abstract         3 reference
    text       sentences that say more  key sentences      topics
    code       signatures, imports      signatures         names
    JSON       shortened lists, texts   fewer still        keys
    image      caption                  its key sentence   image:<id>
    audio      transcript, extracted    key sentences      topics, duration
    video      scenes and transcript    scenes             topics, duration

Compressors are deterministic and leave the full representation alone. One that would not save tokens answers None.
"""
