# Long enough for a busy machine; a test that passes does not wait for it.
ExUnit.start(assert_receive_timeout: 5_000)
