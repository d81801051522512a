"""``python -m gradkeel_service.consumer``."""

from gradkeel_service.consumer.process import main

if __name__ == "__main__":
    main()
