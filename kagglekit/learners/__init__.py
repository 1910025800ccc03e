"""Learners, one interface: fine-tuning, TF-IDF, frozen vectors, SetFit, soups.

`fit(train_rows, valid_rows, folder, seed, start=None) -> Fitted` learns from the rows numbered `train_rows` of the
training table, and predicts `valid_rows` and all test rows. No label of another row is read; the same seed gives the
same predictions. folder: of the fold, for the model that is kept, if any. start: the initial weights, a folder with a
model of `Classifier.save` or of transformers; TF-IDF and soups have none. `settings`: the knobs, for params.json.
The tables are those of `read_train` and `read_test`, backbone is what `find_backbone` gives. Knobs out of range are a
ValueError when the learner is built, before anything is trained.
"""
