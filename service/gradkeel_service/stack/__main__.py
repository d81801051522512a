"""``python -m gradkeel_service.stack``."""

from gradkeel_service.stack.supervisor import main

if __name__ == "__main__":
    main()
