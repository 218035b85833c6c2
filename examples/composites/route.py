"""Each message goes to who can answer it, and what nobody is there for to a person.

    python examples/composites/route.py

The value of one parameter names the branch; `default` takes all other values.
"""

from runnable import Conditional, Pipeline, PythonTask


def classify(message: str) -> str:
    """What a message is about; a model may say that, too."""
    for topic in ("invoice", "password"):
        if topic in message.lower():
            return topic
    return "something else"


def look_up_invoice(message: str) -> str:
    """The number in the message is that of the invoice."""
    number = next((word for word in message.split() if word.isdigit()), "?")
    return f"Invoice {number} is paid."


def reset_password() -> str:
    """Nothing has to be known for that."""
    return "A link to set a new password is on its way."


def ask_a_person(message: str, topic: str) -> str:
    """What no branch is there for."""
    return f"A person will read {message!r} ({topic})."


def send(reply: str) -> None:
    """Whichever branch it is from."""
    print(reply)


pipeline = Pipeline(
    name="help desk",
    steps=[
        PythonTask(function=classify, name="classify", returns=["topic"]),
        Conditional(
            name="route",
            parameter="topic",
            branches={
                "invoice": PythonTask(
                    function=look_up_invoice, name="look up", returns=["reply"]
                ).as_pipeline(),
                "password": PythonTask(
                    function=reset_password, name="reset", returns=["reply"]
                ).as_pipeline(),
            },
            default=PythonTask(function=ask_a_person, name="ask", returns=["reply"]).as_pipeline(),
        ),
        PythonTask(function=send, name="send"),
    ],
)


def main() -> None:
    """Answer three messages, and show which way each went."""
    for message in ("Is invoice 4711 open?", "I forgot my password", "The fox ate my cable"):
        run = pipeline.execute({"message": message})
        print("  " + " > ".join(run.steps))


if __name__ == "__main__":
    main()
