from easyflax.train.history import History


def test_every_epoch_is_appended_under_its_names():
    history = History()
    history.on_epoch_end(3, {"loss": 1.0})
    history.on_epoch_end(4, {"loss": 0.5, "val_loss": 2.0})
    assert history.epoch == [3, 4]
    assert history.history == {"loss": [1.0, 0.5], "val_loss": [2.0]}
    assert repr(history) == "History(epochs=2, keys=['loss', 'val_loss'])"
